"""Whatever users and other writers give: it works, or is refused in the words of the library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynamodb_outbox import (
    ConfigurationError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    InMemoryOutbox,
    InvalidEventError,
    OutboxEventBus,
    StoredEventError,
    WaitTimeoutError,
)
from dynamodb_outbox.dynamodb.items.codec import decode_claim, decode_event, encode_event
from dynamodb_outbox.dynamodb.items.failed import decode_failed
from dynamodb_outbox.port import OutboxOptions
from tests.conftest import MakeOutbox
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs
from tests.values import anything, same

odd = st.sampled_from([None, True, "", "x", b"x", -1, 0, 1, 10**400, 1e308, float("nan"), float("inf"), Decimal(1)])
odd_things = odd | anything | st.builds(object)
zones = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))
modes = st.sampled_from(["native", "decimal"])
times = st.datetimes(timezones=st.just(UTC) | zones | st.none())


@settings(max_examples=150, deadline=None)
@given(
    numbers=modes,
    type=st.text(max_size=5) | odd_things,
    id=st.text(max_size=5) | odd_things,
    occurred_at=times | odd_things,
    metadata=st.dictionaries(st.text(max_size=3), anything, max_size=3) | odd_things,
    payload=anything,
)
@example(
    numbers="native",
    type="order.placed",
    id="e",
    occurred_at=datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    metadata={},
    payload=1,
)
@example(
    numbers="native",
    type="order.placed",
    id="e",
    occurred_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    metadata={},
    payload=1,
)
@example(
    numbers="native",
    type="order.placed",
    id="é" * 1025,
    occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    metadata={},
    payload=None,
)
def test_event_of_anything_is_stored_as_it_is_or_refused(numbers: Any, **given: Any) -> None:
    try:
        event = Event(
            given["type"],
            given["payload"],
            id=given["id"],
            occurred_at=given["occurred_at"],
            metadata=given["metadata"],
        )
        item, size = encode_event(event, due_at=0, numbers=numbers)
    except InvalidEventError as error:
        assert str(error)
    else:
        read = decode_event(item, numbers=numbers)
        assert (read.type, read.id, read.occurred_at) == (event.type, event.id, event.occurred_at)
        assert same(event.payload, read.payload, numbers)
        assert same(dict(event.metadata), dict(read.metadata), numbers)
        assert size > 0


NAMES = ["type", "payload", "occurredAt", "retryCount", "metadata", "handledBy", "lastError", "startedOn", "expireAt"]
NAMES += ["unhandledSince"]
numbers = st.sampled_from(["0", "1", "-1", "1.5", "38", "9" * 38, "1E+125", "1E-130", "0.12345678901234567890123"])
leaves = st.one_of(
    st.text(max_size=4).map(lambda text: {"S": text}),
    numbers.map(lambda number: {"N": number}),
    st.binary(max_size=4).map(lambda content: {"B": content}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=3).map(lambda texts: {"SS": sorted(texts)}),
    st.just({"NS": ["1", "2"]}),
    st.just({"BS": [b"1", b"2"]}),
)
attributes = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda members: {"L": members})
        | st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3).map(lambda members: {"M": members})
    ),
    max_leaves=6,
)
stored_items = st.dictionaries(st.sampled_from([*NAMES, "other"]), attributes, max_size=8)
likely_items = st.builds(
    lambda item, more: (
        {"type": {"S": "order.placed"}, "payload": {"M": {}}, "occurredAt": {"S": "2026-01-01T00:00:00Z"}} | item
        if more
        else item
    ),
    stored_items,
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(item=likely_items, numbers=modes)
def test_stored_item_of_any_shape_is_a_claim_or_has_a_reason(item: dict[str, Any], numbers: Any) -> None:
    # What a claim is sure to have written.
    claimed = item | {"id": {"S": "e"}, "claimToken": {"S": "token"}, "gsiSortKey": {"N": "1790000000000"}}
    try:
        claim = decode_claim(claimed, numbers=numbers)
    except StoredEventError as error:
        assert error.event_id == "e"
        assert error.reason
    else:
        assert claim.token == "token"
        assert isinstance(claim.attempt, int)
    failed = decode_failed(claimed, numbers=numbers)
    assert failed.id == "e"


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(likely_items, min_size=20, max_size=20))
async def test_items_of_any_shape_delay_no_other_event(
    make_outbox: MakeOutbox, local_client: Any, table: str, items: Items, batch: list[dict[str, Any]]
) -> None:
    now = 1_790_000_000.0
    errors: list[Any] = []
    # What is an event of another type ends as well.
    outbox = make_outbox(clock=lambda: now, max_retries=1, unhandled_timeout=0, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    for number, item in enumerate(batch):
        due = {"id": {"S": f"any{number}"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": str(number + 1)}}
        await local_client.put_item(TableName=table, Item=item | due)
    await outbox.publish([Event("order.placed", id="good")])
    looks = 0
    while await outbox.count(EventStatus.PENDING) + await outbox.count(EventStatus.PROCESSING):
        await bus.run_once()
        now += 61
        looks += 1
        assert looks < 20
    stored = await items()
    assert runs.counts["good"] == 1
    assert {item["status"]["S"] for item in stored.values()} <= {"COMPLETED", "FAILED"}
    assert all(item["lastError"]["S"] for item in stored.values() if item["status"]["S"] == "FAILED")
    unreadable = {error.event_id for error in errors if isinstance(error, StoredEventError)}
    assert all(stored[event_id]["status"]["S"] == "FAILED" for event_id in unreadable)
    await bus.get_failed_events()
    for event_id in stored:
        await local_client.delete_item(TableName=table, Key={"id": {"S": event_id}})


OPTIONS = [
    "batch_size",
    "poll_interval",
    "max_poll_interval",
    "processing_timeout",
    "max_retries",
    "base_backoff",
    "concurrency",
    "claim_on_emit",
    "unhandled_timeout",
    "numbers",
    "on_error",
    "observers",
    "clock",
    "random",
]
NAMED = ["table_name", "status_index_name", "conditional_writes", "group_emits", "retention", "shards"]
HANDLER_OPTIONS = ["name", "max_retries", "backoff", "no_retry_on", "timeout", "concurrency"]
BUS_OPTIONS = ["on_error", "stop_timeout", "max_handlers", "on_max_handlers"]


def some_of(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), odd_things, min_size=1, max_size=3)


class NoClient:
    meta = put_item = None


@settings(max_examples=200, deadline=None)
@given(options=some_of(OPTIONS), named=some_of(NAMED))
@example(options={"batch_size": 10**5000}, named={})
@example(options={"observers": 5}, named={})
@example(options={"clock": "now"}, named={})
def test_options_of_an_outbox_are_taken_or_refused(options: dict[str, Any], named: dict[str, Any]) -> None:
    for make in (
        lambda: InMemoryOutbox(**options),
        lambda: OutboxOptions(**{name: value for name, value in options.items() if name != "observers"}),
        lambda: DynamoDBOutbox(**({"client": NoClient(), "table_name": "events"} | options | named)),
    ):
        try:
            make()
        except ConfigurationError as error:
            assert any(name in str(error) for name in [*options, *named, "observer", "poll_interval"]), error


async def handler(event: Event) -> None:
    pass


@settings(max_examples=200, deadline=None)
@given(options=some_of(HANDLER_OPTIONS), of_bus=some_of(BUS_OPTIONS), type=st.text(max_size=3) | odd_things)
async def test_options_of_handlers_and_of_the_bus_are_taken_or_refused(
    options: dict[str, Any], of_bus: dict[str, Any], type: Any
) -> None:
    outbox = InMemoryOutbox()
    try:
        bus = OutboxEventBus(outbox, **of_bus)
    except ConfigurationError:
        bus = OutboxEventBus(outbox, on_error=lambda error: None)
    try:
        bus.on(type, handler, **options)
    except ConfigurationError:
        return
    # What was taken, works.
    await outbox.publish([Event(type)])
    assert await bus.run_once() <= 1


@settings(max_examples=100, deadline=None)
@given(
    delay=odd_things,
    id=odd_things,
    metadata=odd_things,
    occurred_at=odd_things | times,
    if_exists=odd_things,
    payload=odd_things,
)
async def test_emit_of_anything_is_stored_or_refused(**given: Any) -> None:
    outbox = InMemoryOutbox()
    bus = OutboxEventBus(outbox)
    try:
        event = await bus.emit("order.placed", given.pop("payload"), **given)
    except (InvalidEventError, ConfigurationError):
        return
    assert outbox.status_of(event.id) is not None


@pytest.mark.parametrize("call", ["get_failed_events", "retry_events", "drain", "wait_for", "stop"])
@settings(max_examples=25, deadline=None)
@given(value=odd_things)
async def test_argument_of_a_call_is_taken_or_refused(call: str, value: Any) -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    calls: dict[str, Any] = {
        "get_failed_events": lambda: bus.get_failed_events(limit=value),
        "retry_events": lambda: bus.retry_events([value]),
        "drain": lambda: bus.drain(value),
        "stop": lambda: bus.stop(value),
        # Nothing is emitted, and None is no limit.
        "wait_for": lambda: bus.wait_for("order.placed", timeout=value if isinstance(value, str) else 0),
    }
    try:
        await calls[call]()
    except (ConfigurationError, WaitTimeoutError) as error:
        assert str(error)
