"""`KinesisPublisher`: sends events to a stream of Kinesis.

The limits are those of the service model of Kinesis, 2013-12-02:
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dynamodb_outbox import ConfigurationError, Event
from dynamodb_outbox.publishers.aws_client import AwsClient
from dynamodb_outbox.publishers.aws_publisher import AwsPublisher, Entry, Failure, Limits, failures_by_position
from dynamodb_outbox.publishers.cloudevents import source_of, structured
from dynamodb_outbox.publishers.json_form import to_json
from dynamodb_outbox.publishers.messages import MessageFormat, check_format

MAX_KEY_CHARS: Final = 256
DEFAULT_BYTES: Final = 1_048_576
"""The largest record of a stream, with the partition key, unless its `MaxRecordSizeInKiB` was raised up to 10 MiB."""
_INVALID: Final = frozenset({"InvalidArgumentException", "ValidationException"})
LIMITS: Final = Limits(
    entries=500,
    request_bytes=5_000_000,  # half of the limit of a request
    entry_bytes=10_485_760,
    spoiled_requests=_INVALID,
)


class KinesisPublisher(AwsPublisher):
    """A handler that sends each event to a stream of Kinesis. Register it with `bus.subscribe` or `bus.on`.

    Events of several handler calls go in one request, at most 500. Each event is completed or retried by the result of
    its own record. An event that the stream does not accept raises `TargetError`, and is retried; a record of more than
    1 MiB that the stream refuses is rejected. Events with the same ordering key are sent one after
    the other, and Kinesis orders them by their arrival. An event may arrive twice, as with every handler, and the
    second time after later events.

    A client that the publisher made is closed when a bus with the publisher has stopped. `async with publisher` closes
    it, too, for `verify` or `bus.run_once()` without a bus that runs. The publisher belongs to the event loop that uses
    it first, and after that loop is closed, to the next one.

    Args:
        stream_name: The name of the stream.
        client: An open aiobotocore client of Kinesis, with one attempt for each request, because the outbox retries.
            The publisher does not close it. By default it makes such a client.
        region_name: The region of the client that the publisher makes.
        endpoint_url: The endpoint of the client that the publisher makes.
        format: `"cloudevents"` sends the event as a CloudEvent 1.0 in structured JSON, `"payload"` the payload alone.
        source: The `source` of the CloudEvents, such as `/shop`. The default is `dynamodb-outbox`.
        partition_key: Returns the partition key of an event. The default is its ordering key, or else its id.
        linger: How long (seconds) an event waits for others at most, to be sent in the same request.
    """

    def __init__(
        self,
        *,
        stream_name: str,
        client: Any = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        format: MessageFormat = "cloudevents",
        source: str | None = None,
        partition_key: Callable[[Event], str] | None = None,
        linger: float = 0.005,
    ) -> None:
        if not isinstance(stream_name, str) or not stream_name or stream_name.startswith("arn:"):
            raise ConfigurationError(f"stream_name={stream_name!r}: it must be the name of a stream, not its ARN")
        check_format(format)
        client = AwsClient("kinesis", client, region_name=region_name, endpoint_url=endpoint_url)
        super().__init__(f"Kinesis stream {stream_name!r}", client, LIMITS, linger=linger)
        self._stream_name = stream_name
        self._format: MessageFormat = format
        self._source = source_of(source)
        self._partition_key = partition_key

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when the stream has it.

        Raises `TargetError`, and `Reject` if the event is too large for the stream.
        """
        if self._format == "cloudevents":
            data = structured(event, source=self._source).encode()
        else:
            data = to_json(event.payload).encode()
        key = self._key_of(event)
        await self._submit({"Data": data, "PartitionKey": key}, len(data) + len(key.encode()))

    async def verify(self) -> None:
        """Check that the stream exists and accepts records.

        The check needs the permission `kinesis:DescribeStreamSummary`, which sending does not need. Raises
        `TargetError` if the stream does not answer, and `ConfigurationError` if it is being made or deleted.
        """
        reply = await self._read("describe_stream_summary", StreamName=self._stream_name)
        summary: Mapping[str, Any] = reply["StreamDescriptionSummary"]
        if (status := summary["StreamStatus"]) not in {"ACTIVE", "UPDATING"}:
            raise ConfigurationError(f"{self._target} is {status}; it accepts records while it is ACTIVE")

    def _key_of(self, event: Event) -> str:
        if self._partition_key is not None:
            key = self._partition_key(event)
            if not isinstance(key, str) or not key:
                raise ConfigurationError(f"partition_key= must return a string that is not empty, not {key!r}")
        else:
            key = event.id if event.ordering_key is None else event.ordering_key
        return key if len(key) <= MAX_KEY_CHARS else hashlib.sha256(key.encode()).hexdigest()

    def _is_hopeless(self, entry: Entry, code: str) -> bool:
        size = len(entry["Data"]) + len(entry["PartitionKey"].encode())
        return size > DEFAULT_BYTES and code in _INVALID

    async def _call(self, client: Any, entries: list[Entry]) -> Sequence[Failure | None]:
        reply = await client.put_records(StreamName=self._stream_name, Records=entries)
        return failures_by_position(len(entries), reply.get("Records", ()))
