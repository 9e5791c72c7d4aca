"""`SqsPublisher`: sends events to a queue of SQS.

The limits are those of the service model of SQS, 2012-11-05:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dynamodb_outbox import ConfigurationError, Event
from dynamodb_outbox.publishers.aws_client import AwsClient
from dynamodb_outbox.publishers.aws_publisher import Entry, Failure, Limits, failures_by_id, with_positions
from dynamodb_outbox.publishers.message_publisher import MessagePublisher
from dynamodb_outbox.publishers.messages import MessageFormat

_TOO_LONG: Final = frozenset({"BatchRequestTooLong", "InvalidMessageContents"})
_INVALID: Final = frozenset({"InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong"})
LIMITS: Final = Limits(
    entries=10,
    request_bytes=1_000_000,  # below the limit of 1 MiB, because AWS does not say what exactly it counts
    entry_bytes=1_048_576,
    permanent_entries=_TOO_LONG | _INVALID,
    permanent_requests=_TOO_LONG,
    spoiled_requests=_TOO_LONG | _INVALID,
)


class SqsPublisher(MessagePublisher):
    """A handler that sends each event to a queue of SQS. Register it with `bus.subscribe` or `bus.on`.

    Events of several handler calls go in one request, at most ten. Each event is completed, retried or rejected by the
    result of its own entry. An event that SQS can never take is rejected: it becomes FAILED, and its error says why.
    Every other error is raised as `TargetError`, so that the event is retried. An event may arrive twice, as with every
    handler.

    A client that the publisher made is closed when a bus with the publisher has stopped. `async with publisher` closes
    it, too, for `verify` or `bus.run_once()` without a bus that runs. The publisher belongs to the event loop that uses
    it first, and after that loop is closed, to the next one.

    Args:
        queue_url: The URL of the queue. The name of a FIFO queue ends in `.fifo`.
        client: An open aiobotocore client of SQS, with one attempt for each request, because the outbox retries. The
            publisher does not close it. By default it makes such a client.
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
        if not isinstance(queue_url, str) or not queue_url.startswith(("https://", "http://")):
            raise ConfigurationError(f"queue_url={queue_url!r}: it must be the URL of a queue, with https://")
        name = queue_url.rpartition("/")[2]
        client = AwsClient("sqs", client, region_name=region_name, endpoint_url=endpoint_url)
        super().__init__("SQS queue", name, client, LIMITS, format=format, source=source, group=group, linger=linger)
        self._queue_url = queue_url

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when SQS has it. Raises `TargetError`, and `Reject` if SQS can never take it."""
        await self._submit_message(event, self._message_of(event), body="MessageBody")

    async def verify(self, *, max_message_bytes: int = 400_000) -> None:
        """Check the queue: that it exists, may be read, and takes messages of `max_message_bytes`.

        The check needs the permission `sqs:GetQueueAttributes`, which sending does not need. Raises `TargetError` if
        the queue does not answer, and `ConfigurationError` if it does not fit.
        """
        reply = await self._read("get_queue_attributes", QueueUrl=self._queue_url, AttributeNames=["All"])
        self._check_limit(reply.get("Attributes", {}), default=LIMITS.entry_bytes, needed=max_message_bytes)

    async def _call(self, client: Any, entries: list[Entry]) -> Sequence[Failure | None]:
        reply = await client.send_message_batch(QueueUrl=self._queue_url, Entries=with_positions(entries))
        return failures_by_id(len(entries), reply)
