"""Emits of the bus: what is refused, delays, and events with an id of the caller."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Final

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    DuplicateEventError,
    Event,
    EventStatus,
    InvalidEventError,
    OutboxEventBus,
    PartialPublishError,
    UsageError,
)
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox
from tests.thorough import EVERY_CASE

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def test_emit_many_keeps_the_order(bus: OutboxEventBus) -> None:
    events = [Event("order.placed", {"n": n}) for n in range(60)]
    assert await bus.emit_many(iter(events)) == events
    assert await bus.emit_many([]) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda bus: bus.emit(Event("order.placed"), {"payload": "twice"}),
        lambda bus: bus.emit(Event("order.placed"), id="another"),
        lambda bus: bus.emit_many(["not an event"]),
        lambda bus: bus.emit_many(Event("order.placed")),
        lambda bus: bus.emit_many(5),
        lambda bus: bus.emit(""),
        lambda bus: bus.emit("order.placed", id=""),
        lambda bus: bus.emit("order.placed", id="x" * 2049),
    ],
)
async def test_emit_of_what_is_not_an_event_is_refused(bus: OutboxEventBus, outbox: ScriptedOutbox, call: Any) -> None:
    with pytest.raises(InvalidEventError):
        await call(bus)
    assert await outbox.count(PENDING) == 0


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "soon", True])
async def test_delay_that_is_not_a_time_is_refused(bus: OutboxEventBus, delay: Any) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        await bus.emit("order.placed", delay=delay)


async def test_delayed_event_waits_for_its_time_and_no_longer() -> None:
    outbox = quick_outbox(poll_interval=60)
    bus = OutboxEventBus(outbox)
    async with bus:
        bus.on("order.placed", handled := Recorder())
        began = asyncio.get_running_loop().time()
        await bus.emit("order.placed", delay=0.2)
        await bus.wait_for("order.placed", timeout=5)
    assert handled.times[0] - began == pytest.approx(0.2, abs=0.011)


async def test_event_is_delivered_at_its_time() -> None:
    now = 1_800_000_000.0
    outbox = quick_outbox(clock=lambda: now)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handled := Recorder())
    at = datetime.fromtimestamp(now, timezone(timedelta(hours=3)))
    await bus.emit("order.placed", "in two years", deliver_at=at + timedelta(days=730))
    await bus.emit_many([Event("order.placed", "past")], deliver_at=at - timedelta(days=1))
    assert [await bus.run_once(), await bus.run_once()] == [1, 0]
    now += 730 * 86_400 - 1
    assert await bus.run_once() == 0
    now += 1
    assert await bus.run_once() == 1
    assert [event.payload for event in handled.events] == ["past", "in two years"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deliver_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - the naive one is refused
        ({"deliver_at": 5}, "deliver_at=5"),
        ({"deliver_at": datetime(9999, 1, 1, tzinfo=UTC)}, "deliver_at=9999-01-01.* more than ten years ahead"),
        ({"deliver_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "give one of them"),
        ({"if_exists": "replace"}, "must be 'raise' or 'ignore'"),
    ],
)
async def test_invalid_emit_options_are_refused(bus: OutboxEventBus, options: dict[str, Any], says: str) -> None:
    for emit in (bus.emit("order.placed", **options), bus.emit_many([Event("order.placed")], **options)):
        with pytest.raises(ConfigurationError, match=says):
            await emit


KEY: Final = "order-17"


async def emit_in_transaction(bus: OutboxEventBus, **options: Any) -> None:
    async with bus.transaction() as tx:
        tx.emit("order.placed", ordering_key=KEY, **options)


async def emit_into_transaction(bus: OutboxEventBus, **options: Any) -> None:
    async with bus.transaction() as tx:
        await bus.emit("order.placed", ordering_key=KEY, transaction=tx, **options)


async def emit_from_handler(bus: OutboxEventBus, **options: Any) -> None:
    errors: list[Exception] = []

    @bus.on("parent")
    async def handle(_: Event, delivery: Delivery) -> None:
        try:
            await delivery.emit("order.placed", ordering_key=KEY, **options)
        except ConfigurationError as error:
            errors.append(error)

    await bus.emit("parent")
    assert await bus.run_once() == 1
    for error in errors:
        raise error


@pytest.mark.cases(EVERY_CASE)
@pytest.mark.parametrize("options", [{"delay": 0}, {"deliver_at": datetime(2030, 1, 1, tzinfo=UTC)}])
@pytest.mark.parametrize(
    "emit",
    [
        lambda bus, **options: bus.emit("order.placed", ordering_key=KEY, **options),
        lambda bus, **options: bus.emit_many([Event("order.placed"), Event("paid", ordering_key=KEY)], **options),
        emit_in_transaction,
        emit_into_transaction,
        emit_from_handler,
    ],
    ids=["emit", "emit_many", "tx.emit", "emit into a transaction", "delivery.emit"],
)
async def test_event_with_an_ordering_key_takes_no_delay(
    bus: OutboxEventBus, outbox: ScriptedOutbox, emit: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"has the ordering key 'order-17' and a delay: .* leave out delay"):
        await emit(bus, **options)
    assert [await outbox.count(status) for status in (PENDING, PROCESSING)] == [0, 0]


@pytest.mark.cases(EVERY_CASE)
@pytest.mark.parametrize("way", ["delivery.emit", "tx.emit"])
async def test_child_has_the_ordering_key_that_its_handler_gives_it(bus: OutboxEventBus, way: str) -> None:
    bus.on("child", handled := Recorder())

    @bus.on("parent")
    async def handle(_: Event, delivery: Delivery) -> None:
        if way == "delivery.emit":
            child = await delivery.emit("child", ordering_key=KEY)
        else:
            async with delivery.transaction() as tx:
                child = tx.emit("child", ordering_key=KEY)
        assert child is not None
        assert child.ordering_key == KEY

    await bus.emit("parent", ordering_key="another")
    assert [await bus.run_once(), await bus.run_once()] == [1, 1]
    assert [event.ordering_key for event in handled.events] == [KEY]


async def test_second_emit_of_an_id_is_refused_or_passed_over(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    first = await bus.emit("order.placed", 1, id="order-1")
    with pytest.raises(DuplicateEventError, match="order-1"):
        await bus.emit("order.placed", 2, id="order-1")
    passed_over = await bus.emit("order.placed", 3, id="order-1", if_exists="ignore")
    assert passed_over is not None
    assert (passed_over.payload, passed_over.already_stored, first.already_stored) == (1, True, False)
    await bus.emit_many(
        [Event("order.placed", 4, id="order-1"), Event("order.placed", 5, id="order-2")], if_exists="ignore"
    )
    await bus.emit_many(
        [Event("order.placed", 6, id="order-1"), Event("order.placed", 7, id="order-2")], if_exists="ignore"
    )
    with pytest.raises(PartialPublishError) as caught:
        await bus.emit_many([Event("order.placed", id="order-1"), Event("order.placed", id="order-3")])
    assert isinstance(caught.value.causes["order-1"], DuplicateEventError)
    with pytest.raises(DuplicateEventError, match="two events of one call have the id 'same', so nothing was sent"):
        await bus.emit_many([Event("order.placed", id="same"), Event("order.placed", id="same")], if_exists="ignore")
    assert await outbox.count(PENDING) == 3
    assert sorted(claim.event.payload or 0 for claim in await outbox.claim(9)) == [0, first.payload, 5]


async def test_notify_wakes_the_worker(bus: OutboxEventBus) -> None:
    outbox = quick_outbox(poll_interval=60)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", Recorder())
    bus.notify()  # nothing runs: nothing to wake
    async with bus:
        await anyio.sleep(0.05)
        await outbox.publish([Event("order.placed")])  # as a transaction of the user's would
        bus.notify()
        await bus.wait_for("order.placed", timeout=5)


@pytest.mark.parametrize("way", ["emit", "transaction"])
async def test_child_that_gets_the_metadata_of_its_parent_has_its_own_causation(bus: OutboxEventBus, way: str) -> None:
    children = Recorder()

    @bus.on("order.placed")
    async def bill(event: Event, delivery: Delivery) -> None:
        await delivery.emit("order.billed", metadata={"tenant": "acme"})

    @bus.on("order.billed")
    async def mail(event: Event, delivery: Delivery) -> None:
        if way == "emit":
            await delivery.emit("mail.sent", metadata=dict(event.metadata))
        else:
            async with delivery.transaction() as tx:
                tx.emit("mail.sent", metadata=dict(event.metadata))

    bus.on("order.billed", billed := Recorder())
    bus.on("mail.sent", children)
    async with bus:
        await bus.emit("order.placed", id="order-1")
        await bus.drain(5)
    (parent,), (child,) = billed.events, children.events
    assert child.metadata == {"correlationId": "order-1", "causationId": parent.id, "tenant": "acme"}


# Transactions


async def test_event_of_a_transaction_is_stored_as_it_was_when_it_was_emitted(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    payload: dict[str, Any] = {"lines": [], "view": MappingProxyType({"list": (live := [0])})}
    metadata: dict[str, Any] = {"n": 0}
    async with bus.transaction() as tx:
        for number in range(3):
            payload["n"], metadata["n"] = number, number
            payload["lines"].append(number)
            live[0] = number
            event = tx.emit("order.placed", payload, metadata=metadata)
            await bus.emit("order.joined", payload, metadata=metadata, transaction=tx)
            assert event.payload == payload
        payload["lines"].clear()
    stored = [(each.type, each.payload, each.metadata["n"]) for each in (await bus.list_events("due")).events]
    lines = [[0], [0, 1], [0, 1, 2]]
    assert sorted(stored, key=lambda each: (each[0], each[2])) == [
        (name, {"n": number, "lines": lines[number], "view": {"list": [number]}}, number)
        for name in ("order.joined", "order.placed")
        for number in range(3)
    ]


async def test_transaction_of_another_outbox_takes_no_event(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    other = OutboxEventBus(quick_outbox())
    with pytest.raises(UsageError, match="belongs to a bus of another outbox"):
        async with other.transaction() as tx:
            await bus.emit("order.placed", transaction=tx)
    same = OutboxEventBus(outbox)
    async with same.transaction() as tx:
        event = await bus.emit("order.placed", transaction=tx)
    assert event is not None
    assert outbox.stored_ids == {event.id}
