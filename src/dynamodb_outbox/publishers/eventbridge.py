"""`EventBridgePublisher`: sends events to a bus of EventBridge.

The limits are those of the service models of EventBridge, 2015-10-07, and of its custom event buses, 2025-05-15:
https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html and
https://docs.aws.amazon.com/eventbridgev2/latest/APIReference/API_PutEvents.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dynamodb_outbox import ConfigurationError, Event, Reject
from dynamodb_outbox.publishers.aws_client import AwsClient, check_service, is_arn_of
from dynamodb_outbox.publishers.aws_publisher import AwsPublisher, Entry, Failure, Limits, failures_by_position
from dynamodb_outbox.publishers.cloudevents import structured
from dynamodb_outbox.publishers.fitting_ids import deduplication_id, fitting_id
from dynamodb_outbox.publishers.json_form import to_json
from dynamodb_outbox.publishers.messages import MessageFormat, check_format

MAX_TYPE_CHARS: Final = 128
_TIME_BYTES: Final = 14
"""The size of `Time`: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html"""
LIMITS: Final = Limits(
    entries=10,
    request_bytes=1_000_000,
    entry_bytes=1_000_000,  # "less than 1 MB"
    permanent_entries=frozenset({"MalformedDetail", "InvalidArgument"}),
    spoiled_requests=frozenset({"ValidationException"}),
)
V2_LIMITS: Final = Limits(
    entries=100,
    request_bytes=1_000_000,
    entry_bytes=1_000_000,
    permanent_entries=frozenset({"MalformedDetail", "InvalidArgument", "InvalidInputException"}),
    spoiled_requests=frozenset({"InvalidInputException"}),
)
_V2: Final = ":event-busv2/"
"""Is in the ARN of a custom event bus."""


class EventBridgePublisher(AwsPublisher):
    """A handler that sends each event to a bus of EventBridge. Register it with `bus.subscribe` or `bus.on`.

    The type of the event is the `detail-type`, and its payload is the `detail`, so that rules can match
    `detail.order`. A payload that is not a mapping becomes `{"data": payload}`.

    Events of several handler calls go in one request, at most ten. Each event is completed, retried or rejected by the
    result of its own entry. An event that EventBridge can never take is rejected: it becomes FAILED, and its error says
    why. Every other error is raised as `TargetError`, so that the event is retried. An event may arrive twice, as with
    every handler. A classic bus does not remove repeats. A custom event bus (EventBridge V2) does, within five minutes:
    events go there with source and id as the deduplication id, and with their ordering key as the group id.

    A client that the publisher made is closed when a bus with the publisher has stopped. `async with publisher` closes
    it, too, for `verify` or `bus.run_once()` without a bus that runs. The publisher belongs to the event loop that uses
    it first, and after that loop is closed, to the next one.

    Args:
        source: The `source` of the events, such as `shop`. It must not begin with `aws.`.
        bus_name: The name of the bus. Without a name and an ARN, it is the default bus of the account.
        bus_arn: The ARN of the bus, in place of its name; necessary for a bus of another account, and for a custom
            event bus, whose client aiobotocore has from 3.10 on.
        client: An open aiobotocore client of EventBridge (`events`, or `eventbridgev2` for a custom event bus), with
            one attempt for each request, because the outbox retries. The publisher does not close it. By default it
            makes such a client.
        region_name: The region of the client that the publisher makes.
        endpoint_url: The endpoint of the client that the publisher makes.
        format: `"payload"` makes the payload the `detail`. `"cloudevents"` makes a CloudEvent 1.0 the `detail`, which
            also has the id of the event and its metadata.
        linger: How long (seconds) an event waits for others at most, to be sent in the same request.
    """

    def __init__(
        self,
        *,
        source: str,
        bus_name: str | None = None,
        bus_arn: str | None = None,
        client: Any = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        format: MessageFormat = "payload",
        linger: float = 0.005,
    ) -> None:
        if not isinstance(source, str) or not source or source.startswith("aws."):
            raise ConfigurationError(f"source={source!r}: it must be a name that does not begin with 'aws.'")
        if bus_name is not None and bus_arn is not None:
            raise ConfigurationError("bus_name, bus_arn: pass one of them, or none for the default bus")
        if bus_name is not None and (not isinstance(bus_name, str) or not bus_name):
            raise ConfigurationError(f"bus_name={bus_name!r}: it must be a name, or None for the default bus")
        if bus_arn is not None and not is_arn_of("events", bus_arn):
            raise ConfigurationError(f"bus_arn={bus_arn!r}: it must be the ARN of a bus, arn:aws:events:...")
        check_format(format)
        self._bus = bus_arn or bus_name or "default"
        self._is_v2 = _V2 in self._bus
        service, limits = ("eventbridgev2", V2_LIMITS) if self._is_v2 else ("events", LIMITS)
        if self._is_v2 and client is None:
            check_service(service)
        client = AwsClient(service, client, region_name=region_name, endpoint_url=endpoint_url)
        super().__init__(f"EventBridge bus {self._bus!r}", client, limits, linger=linger)
        self._source = source
        self._format: MessageFormat = format

    async def __call__(self, event: Event) -> None:
        """Send an event, and return when EventBridge has it.

        Raises `TargetError`, and `Reject` if EventBridge can never take the event.
        """
        if len(event.type) > MAX_TYPE_CHARS:
            raise Reject(
                f"the type has {len(event.type)} characters, and EventBridge takes {MAX_TYPE_CHARS} in a detail-type"
            )
        detail = self._detail(event)
        entry: Entry = {
            "Source": self._source,
            "DetailType": event.type,
            "Detail": detail,
            "Time": event.occurred_at,
        }
        if self._is_v2:
            entry["SystemMetadata"] = self._system_metadata(event)
        else:
            entry["EventBusName"] = self._bus
        await self._submit(entry, _TIME_BYTES + sum(len(part.encode()) for part in (self._source, event.type, detail)))

    async def verify(self) -> None:
        """Check that the bus exists, because EventBridge may accept events for a bus that does not exist.

        The check needs the permission `events:DescribeEventBus`, which sending does not need. Raises `TargetError`.
        """
        await self._read("describe_event_bus", **{"EventBusArn" if self._is_v2 else "Name": self._bus})

    def _detail(self, event: Event) -> str:
        if self._format == "cloudevents":
            return structured(event, source=self._source)
        return to_json(event.payload if isinstance(event.payload, Mapping) else {"data": event.payload})

    def _system_metadata(self, event: Event) -> dict[str, str]:
        ids = {"DeduplicationId": deduplication_id(event, source=self._source)}
        return ids if event.ordering_key is None else ids | {"EventGroupId": fitting_id(event.ordering_key)}

    async def _call(self, client: Any, entries: list[Entry]) -> Sequence[Failure | None]:
        bus = {"EventBusArn": self._bus} if self._is_v2 else {}
        reply = await client.put_events(**bus, Entries=entries)
        return failures_by_position(len(entries), reply.get("Entries", ()))
