"""`SqsPublisher`: sends events to a queue of SQS.

The limits are those of the service model of SQS, 2012-11-05:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from botocore.exceptions import ClientError

from dynamodb_outbox import ConfigurationError, Event, Reject, TargetError
from dynamodb_outbox.publishers.aws_client import AwsClient, plain_code, target_error
from dynamodb_outbox.publishers.batcher import Batcher
from dynamodb_outbox.publishers.cloudevents import DEFAULT_SOURCE
from dynamodb_outbox.publishers.fitting_ids import fitting_id
from dynamodb_outbox.publishers.messages import Message, MessageFormat, check_format, message_of

MAX_ENTRIES: Final = 10
MAX_MESSAGE_BYTES: Final = 1_048_576
MAX_BATCH_BYTES: Final = 1_000_000
"""Less than the limit of 1 MiB, because AWS does not say what exactly it counts."""
_PERMANENT: Final = frozenset({
    "InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong", "BatchRequestTooLong",
})  # fmt: skip
"""Errors that a message causes by itself, so that a retry cannot help."""
_Entry = dict[str, Any]


class SqsPublisher:
    """A handler that sends each event to a queue of SQS. Register it with `bus.subscribe` or `bus.on`.

    Events of several handler calls go in one request, at most ten. Each event is completed, retried or rejected by the
    result of its own entry. An event that SQS can never take is rejected: it becomes FAILED, and its error says why.
    Every other error is raised as `TargetError`, so that the event is retried. An event may arrive twice, as with every
    handler.

    `async with publisher` closes the client at the end of the block, if the publisher made it; put it around
    `async with bus`. The publisher belongs to the event loop that uses it first.

    Args:
        queue_url: The URL of the queue. The name of a FIFO queue ends in `.fifo`.
        client: An open aiobotocore client of SQS, which the publisher does not close. By default it makes a client,
            with one attempt for each request: the outbox retries.
        region_name: The region of the client that the publisher makes.
        endpoint_url: The endpoint of the client that the publisher makes.
        format: `"cloudevents"` sends the event as a CloudEvent 1.0 in structured JSON, `"payload"` the payload alone in
            JSON, with `id` and `time` as message attributes.
        source: The `source` of the CloudEvents, such as `/shop`. The default is `dynamodb-outbox`.
        group: Returns the message group id of an event. By default, messages to a FIFO queue have the ordering key of
            the event as their group, or else its id, and messages to a standard queue have no group. A standard queue
            uses groups to serve tenants fairly.
        linger: How long (seconds) an event waits for others at most, to be sent in the same request.
    """

    def __init__(
        self,
        *,
        queue_url: str,
        client: Any = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        format: MessageFormat = "cloudevents",
        source: str | None = None,
        group: Callable[[Event], str | None] | None = None,
        linger: float = 0.005,
    ) -> None:
        if not isinstance(queue_url, str) or not queue_url:
            raise ConfigurationError(f"queue_url={queue_url!r}: it must be the URL of a queue")
        if not isinstance(linger, (int, float)) or not 0 <= linger <= 1:
            raise ConfigurationError(f"linger={linger!r}: it must be a number of seconds from 0 to 1")
        check_format(format)
        self._queue_url = queue_url
        self._name = queue_url.rpartition("/")[2]
        self._is_fifo = self._name.endswith(".fifo")
        self._format: MessageFormat = format
        self._source = source or DEFAULT_SOURCE
        self._group = group
        self._client = AwsClient("sqs", client, region_name=region_name, endpoint_url=endpoint_url)
        self._batcher = Batcher(self._send, max_entries=MAX_ENTRIES, max_bytes=MAX_BATCH_BYTES, linger=linger)

    def __repr__(self) -> str:
        return f"SqsPublisher({self._name!r})"

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when SQS has it. Raises `TargetError`, and `Reject` if SQS can never take it."""
        message = message_of(event, format=self._format, source=self._source)
        if message.size > MAX_MESSAGE_BYTES:
            raise Reject(
                f"the message has {message.size:,} bytes, and a message of SQS may have {MAX_MESSAGE_BYTES:,} at most"
            )
        await self._batcher.submit(self._entry(event, message), message.size)

    async def verify(self, *, max_message_bytes: int = 400_000) -> None:
        """Check the queue: that it exists, may be read, and takes messages of `max_message_bytes`.

        The check needs the permission `sqs:GetQueueAttributes`, which sending does not need. Raises `TargetError` if
        the queue does not answer, and `ConfigurationError` if it does not fit.
        """
        client = await self._client.get()
        try:
            reply = await client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["All"])
        except Exception as error:
            raise target_error(error, target=self._target) from error
        attributes: Mapping[str, str] = reply.get("Attributes", {})
        limit = int(attributes.get("MaximumMessageSize", MAX_MESSAGE_BYTES))
        if limit < max_message_bytes:
            raise ConfigurationError(
                f"{self._target} takes messages of {limit:,} bytes at most, and {max_message_bytes:,} are needed; "
                "raise its MaximumMessageSize, or pass the size of your largest event as max_message_bytes="
            )

    async def close(self) -> None:
        """Send what waits, wait for the requests under way, and close the client, if the publisher made it."""
        await self._batcher.flush()
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _target(self) -> str:
        return f"SQS queue {self._name!r}"

    def _entry(self, event: Event, message: Message) -> _Entry:
        entry: _Entry = {"MessageBody": message.body, "MessageAttributes": message.attributes}
        group = None if self._group is None else self._group(event)
        if group is None and self._is_fifo:
            group = event.id if event.ordering_key is None else event.ordering_key
        if group is not None:
            entry["MessageGroupId"] = fitting_id(group)
        if self._is_fifo:
            entry["MessageDeduplicationId"] = fitting_id(event.id)
        return entry

    async def _send(self, entries: list[_Entry]) -> Sequence[Exception | None]:
        client = await self._client.get()
        # An id of SQS has 80 letters and digits at most, so the position is the id, not the id of the event.
        batch = [{"Id": str(position), **entry} for position, entry in enumerate(entries)]
        try:
            reply = await client.send_message_batch(QueueUrl=self._queue_url, Entries=batch)
        except Exception as error:
            return await self._after_refusal(entries, error)
        sent = {success["Id"] for success in reply.get("Successful", ())}
        failed = {failure["Id"]: failure for failure in reply.get("Failed", ())}
        return [None if entry["Id"] in sent else self._entry_error(failed.get(entry["Id"], {})) for entry in batch]

    async def _after_refusal(self, entries: list[_Entry], error: Exception) -> Sequence[Exception | None]:
        """Return the results of a refused request. If an entry may be the cause, each entry is sent alone."""
        raised = target_error(error, target=self._target)
        if not isinstance(error, ClientError) or raised.code not in _PERMANENT:
            return [target_error(error, target=self._target) for _ in entries]
        if len(entries) == 1:
            return [Reject(f"{self._target} refused the message: {raised.code}: {raised.reason}")]
        return [result for entry in entries for result in await self._send([entry])]

    def _entry_error(self, failure: Mapping[str, Any]) -> Exception:
        code = plain_code(failure.get("Code"))
        reason = failure.get("Message") or "SQS gave no reason"
        if code in _PERMANENT and failure.get("SenderFault", True):
            return Reject(f"{self._target} refused the message: {code}: {reason}")
        return TargetError(target=self._target, code=code, reason=reason)
