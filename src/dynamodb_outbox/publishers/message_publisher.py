"""What the publishers of SQS and SNS have in common: messages with a format, a group and a largest size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dynamodb_outbox import ConfigurationError, Event
from dynamodb_outbox.publishers.aws_client import AwsClient
from dynamodb_outbox.publishers.aws_publisher import AwsPublisher, Limits
from dynamodb_outbox.publishers.cloudevents import source_of
from dynamodb_outbox.publishers.messages import Message, MessageFormat, check_format, group_of, message_of


class MessagePublisher(AwsPublisher):
    """The base of the publishers of SQS and SNS, whose targets are FIFO if their name ends in `.fifo`."""

    def __init__(
        self,
        kind: str,
        name: str,
        client: AwsClient,
        limits: Limits,
        *,
        format: MessageFormat,
        source: str | None,
        group: Callable[[Event], str | None] | None,
        linger: float,
    ) -> None:
        check_format(format)
        super().__init__(f"{kind} {name!r}", client, limits, linger=linger)
        self._is_fifo = name.endswith(".fifo")
        self._format: MessageFormat = format
        self._source = source_of(source)
        self._group = group

    def _message_of(self, event: Event) -> Message:
        return message_of(event, format=self._format, source=self._source)

    async def _submit_message(self, event: Event, message: Message, *, body: str) -> None:
        """Send a message, whose body the service calls `body`."""
        entry: dict[str, Any] = {body: message.body, "MessageAttributes": message.attributes}
        await self._submit(
            entry | group_of(event, self._group, is_fifo=self._is_fifo, source=self._source), message.size
        )

    def _check_limit(self, attributes: Mapping[str, str], *, default: int, needed: int) -> None:
        """Raise `ConfigurationError` if the target takes smaller messages only than are needed (bytes)."""
        limit = int(attributes.get("MaximumMessageSize", default))
        if limit < needed:
            raise ConfigurationError(
                f"{self._target} takes messages of {limit:,} bytes at most, and {needed:,} are needed; raise its "
                "MaximumMessageSize, or pass the size of your largest event as max_message_bytes="
            )
