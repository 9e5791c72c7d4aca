"""`SnsPublisher`: sends events to a topic of SNS.

The limits are those of the service model of SNS, 2010-03-31:
https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dynamodb_outbox import ConfigurationError, Event, Reject
from dynamodb_outbox.publishers.aws_client import AwsClient, is_arn_of
from dynamodb_outbox.publishers.aws_publisher import Entry, Failure, Limits, failures_by_id, with_positions
from dynamodb_outbox.publishers.message_publisher import MessagePublisher
from dynamodb_outbox.publishers.messages import MessageFormat

DEFAULT_BYTES: Final = 262_144
"""What a topic takes unless its `MaximumMessageSize` was raised, which may be up to 1 MiB."""
_INVALID: Final = frozenset({"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"})
LIMITS: Final = Limits(
    entries=10,
    request_bytes=250_000,  # below the limit of most topics, because AWS does not say what exactly it counts
    entry_bytes=1_048_576,
    permanent_entries=_INVALID,
    permanent_requests=frozenset({"BatchRequestTooLong"}),
    spoiled_requests=_INVALID | {"BatchRequestTooLong", "ValidationException"},
)


class SnsPublisher(MessagePublisher):
    """A handler that sends each event to a topic of SNS. Register it with `bus.subscribe` or `bus.on`.

    Events of several handler calls go in one request, at most ten. Each event is completed, retried or rejected by the
    result of its own entry. An event that SNS can never take is rejected: it becomes FAILED, and its error says why.
    Every other error is raised as `TargetError`, so that the event is retried. An event may arrive twice, as with every
    handler.

    A client that the publisher made is closed when a bus with the publisher has stopped. `async with publisher` closes
    it, too, for `verify` or `bus.run_once()` without a bus that runs. The publisher belongs to the event loop that uses
    it first, and after that loop is closed, to the next one.

    Args:
        topic_arn: The ARN of the topic. The name of a FIFO topic ends in `.fifo`.
        client: An open aiobotocore client of SNS, with one attempt for each request, because the outbox retries. The
            publisher does not close it. By default it makes such a client.
        region_name: The region of the client that the publisher makes.
        endpoint_url: The endpoint of the client that the publisher makes.
        format: `"cloudevents"` sends the event as a CloudEvent 1.0 in structured JSON, `"payload"` the payload alone in
            JSON, with `id` and `time` as message attributes.
        source: The `source` of the CloudEvents, such as `/shop`. The default is `dynamodb-outbox`.
        group: Returns the message group id of an event. By default, messages to a FIFO topic have the ordering key of
            the event as their group, or else its id, and messages to a standard topic have no group. A standard topic
            passes groups on to standard queues of SQS only.
        linger: How long (seconds) an event waits for others at most, to be sent in the same request.
    """

    def __init__(
        self,
        *,
        topic_arn: str,
        client: Any = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        format: MessageFormat = "cloudevents",
        source: str | None = None,
        group: Callable[[Event], str | None] | None = None,
        linger: float = 0.005,
    ) -> None:
        if not is_arn_of("sns", topic_arn):
            raise ConfigurationError(f"topic_arn={topic_arn!r}: it must be the ARN of a topic, arn:aws:sns:...")
        name = topic_arn.rpartition(":")[2]
        client = AwsClient("sns", client, region_name=region_name, endpoint_url=endpoint_url)
        super().__init__("SNS topic", name, client, LIMITS, format=format, source=source, group=group, linger=linger)
        self._topic_arn = topic_arn

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when SNS has it. Raises `TargetError`, and `Reject` if SNS can never take it."""
        message = self._message_of(event)
        try:
            await self._submit_message(event, message, body="Message")
        except Reject as error:
            if not DEFAULT_BYTES < message.size <= LIMITS.entry_bytes:
                raise
            raise Reject(
                f"{error.reason}; the event has {message.size:,} bytes, and a topic takes {DEFAULT_BYTES:,} unless you "
                "raise its MaximumMessageSize"
            ) from error

    async def verify(self, *, max_message_bytes: int = DEFAULT_BYTES) -> None:
        """Check the topic: that it exists, may be read, and takes messages of `max_message_bytes`.

        Events may have 400 KB, and a topic takes 256 KiB unless you raise its `MaximumMessageSize`. The check needs the
        permission `sns:GetTopicAttributes`, which sending does not need. Raises `TargetError` if the topic does not
        answer, and `ConfigurationError` if it does not fit.
        """
        reply = await self._read("get_topic_attributes", TopicArn=self._topic_arn)
        self._check_limit(reply.get("Attributes", {}), default=DEFAULT_BYTES, needed=max_message_bytes)

    async def _call(self, client: Any, entries: list[Entry]) -> Sequence[Failure | None]:
        reply = await client.publish_batch(TopicArn=self._topic_arn, PublishBatchRequestEntries=with_positions(entries))
        return failures_by_id(len(entries), reply)
