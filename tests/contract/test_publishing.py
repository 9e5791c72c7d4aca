"""Every adapter stores events as they are, once per id, and counts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    EventStatus,
    InvalidEventError,
    OutboxEventBus,
    PartialPublishError,
    UnstorableValueError,
)
from dynamodb_outbox.adapter import Failed, Outbox
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock
from tests.values import kinds

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


# Publishing


async def test_published_event_is_pending_and_due_now(adapter: Adapter, outbox: Outbox, clock: Clock) -> None:
    event = Event("user.created", {"email": "ada@example.org"})
    await outbox.publish([event])
    stored = await adapter.stored(event.id)
    assert stored == {
        "status": PENDING,
        "retries": 0,
        "sort_key": clock.now,
        "token": None,
        "error": "",
        "handled_by": set(),
        "unhandled_since": None,
    }
    assert await outbox.count(PENDING) == 1


async def test_event_comes_back_as_it_was(outbox: Outbox) -> None:
    event = Event(
        "order.placed",
        {"total": 12.5, "lines": [{"sku": "a", "n": 2}, None, True], "note": "", "empty": {}, "tags": {"x", "y"}},
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        metadata={"traceId": "abc", "depth": 3},
    )
    await outbox.publish([event])
    assert (await claim_one(outbox)).event == event


@pytest.mark.parametrize("payload", [None, "text", 7, [1, 2], {"$value": 1}, {"$value": {"$value": None}}, b"\x00", {}])
async def test_payload_that_is_not_a_plain_mapping_comes_back_as_it_was(outbox: Outbox, payload: Any) -> None:
    await outbox.publish([Event("order.placed", payload)])
    assert (await claim_one(outbox)).event.payload == payload


async def test_whole_numbers_come_back_as_int_and_all_others_as_float(outbox: Outbox) -> None:
    await outbox.publish(
        [Event("order.placed", [Decimal("20.00"), Decimal("19.99"), 20.0, 0.1, 10**37 + 1, {Decimal("0.5"), 2}])]
    )
    received = (await claim_one(outbox)).event.payload
    assert repr(received) == repr([20, 19.99, 20, 0.1, 10**37 + 1, received[-1]])
    assert kinds(received[-1]) == {(float, 0.5), (int, 2)}


async def test_decimal_that_no_float_equals_is_refused_before_anything_is_stored(outbox: Outbox) -> None:
    precise = Event("order.placed", {"lines": [{"price": Decimal("0.1234567890123456789")}]})
    with pytest.raises(UnstorableValueError, match='numbers="decimal"') as caught:
        await outbox.publish([Event("order.placed"), precise])
    assert (caught.value.path, caught.value.event_id) == ("payload.lines[0].price", precise.id)
    assert await outbox.count(PENDING) == 0


async def test_numbers_that_are_not_whole_come_back_as_decimal_where_that_is_chosen(adapter: Adapter) -> None:
    outbox = adapter.make(numbers="decimal")
    precise = Decimal("0.1234567890123456789")
    await outbox.publish(
        [Event("order.placed", [Decimal("20.00"), Decimal("1.10"), 0.1, 1e60, precise], metadata={"of": 0.5})]
    )
    claim = await claim_one(outbox)
    assert repr(claim.event.payload) == repr([20, Decimal("1.1"), Decimal("0.1"), Decimal("1E+60"), precise])
    assert repr(claim.event.metadata) == repr({"of": Decimal("0.5")})
    await settle_one(outbox, claim, Failed(error="x"))
    (failed,) = await outbox.failed_events(type=None, limit=10)
    assert repr(failed.payload) == repr(claim.event.payload)


@pytest.mark.parametrize(
    ("numbers", "fraction", "expected"),
    [
        ("native", "0.5", "[1, 0.5]"),
        # Only this mode takes it: each kind of emit encodes by the mode, too.
        ("decimal", "0.1234567890123456789", "[1, Decimal('0.1234567890123456789')]"),
    ],
)
async def test_handlers_get_numbers_by_the_mode_however_an_event_came_to_them(
    adapter: Adapter, numbers: str, fraction: str, expected: str
) -> None:
    bus = OutboxEventBus(adapter.make(numbers=numbers))
    received: dict[str, str] = {}

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        received[event.id] = repr(event.payload)

    payload = [Decimal("1.0"), Decimal(fraction)]
    await bus.emit("order.placed", payload, id="polled")
    async with bus:
        # Claimed on emit: no claim reads them from the table.
        async with anyio.create_task_group() as group:
            for _ in range(4):  # the first goes alone, the others share a request
                group.start_soon(bus.emit, "order.placed", payload)
        await bus.emit_many([Event("order.placed", payload, id=f"one of many {n}") for n in range(2)])
        async with bus.transaction() as tx:
            tx.emit("order.placed", payload, id="in a transaction")
        with anyio.fail_after(60):
            while len(received) < 8:
                await anyio.sleep(0.01)
    assert set(received.values()) == {expected}


async def test_number_beyond_a_float_is_delivered_as_the_nearest_one(adapter: Adapter) -> None:
    await adapter.make(numbers="decimal").publish([Event("order.placed", Decimal("0.1234567890123456789"))])
    assert repr((await claim_one(adapter.make())).event.payload) == "0.12345678901234568"


async def test_numbers_are_native_or_decimal(adapter: Adapter) -> None:
    for numbers in ("float", None, ["decimal"], 0):
        with pytest.raises(ConfigurationError, match="'native' or 'decimal'"):
            adapter.make(numbers=numbers)


async def test_reserved_id_is_refused_by_every_kind_of_emit(outbox: Outbox) -> None:
    bus = OutboxEventBus(outbox)
    reserved = {"id": "dynamodb-outbox-workers"}
    with pytest.raises(InvalidEventError, match="'dynamodb-outbox' are reserved"):
        await bus.emit("order.placed", **reserved)
    with pytest.raises(InvalidEventError, match="are reserved"):
        await bus.emit_many([Event("order.placed"), Event("order.placed", **reserved)])
    with pytest.raises(InvalidEventError, match="are reserved"):
        async with bus.transaction() as tx:
            tx.emit("order.placed", **reserved)
    assert await outbox.count(PENDING) == 0


async def test_second_event_of_an_id_is_refused_and_changes_nothing(adapter: Adapter, outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed", {"n": 1}, id="order-1")])
    claim = await claim_one(outbox)
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.publish([Event("order.placed", {"n": 2}, id="order-1")])
    assert caught.value.event_id == "order-1"
    stored = await adapter.stored("order-1")
    assert (stored["status"], stored["token"]) == (PROCESSING, claim.token)


async def test_same_object_emitted_again_never_resets_a_claimed_event(adapter: Adapter, outbox: Outbox) -> None:
    events = [Event("order.placed", {"n": n}) for n in range(3)]
    await outbox.publish(events)
    assert len(await outbox.claim(10)) == 3
    with pytest.raises(PartialPublishError) as caught:
        await outbox.publish([*events, Event("order.placed", {"n": 4}, id="new")])
    assert {event.id for event in caught.value.failed} == {event.id for event in events}
    assert [event.id for event in caught.value.published] == ["new"]
    assert [(await adapter.stored(event.id))["status"] for event in events] == [PROCESSING] * 3


async def test_refused_duplicate_has_the_stored_event(outbox: Outbox) -> None:
    first = Event("order.placed", {"total": 1}, id="order-1", metadata={"by": "ada"})
    await outbox.publish([first])
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.publish([Event("order.placed", {"total": 2}, id="order-1")])
    assert caught.value.stored == first
    with pytest.raises(DuplicateEventError) as caught:
        await outbox.transact([], [(Event("order.placed", {"total": 3}, id="order-1"), None)])
    assert caught.value.stored == first


async def test_emit_that_ignores_a_duplicate_returns_the_stored_event(outbox: Outbox) -> None:
    bus = OutboxEventBus(outbox)
    first = Event("order.placed", {"total": 1}, id="order-1")
    assert await bus.emit(first) is first
    second = await bus.emit("order.placed", {"total": 2}, id="order-1", if_exists="ignore")
    assert second == first
    known, new = await bus.emit_many(
        [Event("order.placed", 3, id="order-1"), Event("order.placed", 4, id="order-2")], if_exists="ignore"
    )
    assert (known, new.payload) == (first, 4)
    assert [event.already_stored for event in (first, second, known, new)] == [False, True, True, False]


async def test_same_id_twice_in_one_publish_is_refused_whole(outbox: Outbox) -> None:
    with pytest.raises(DuplicateEventError):
        await outbox.publish(
            [Event("order.placed", id="a"), Event("order.placed", id="b"), Event("order.placed", id="a")]
        )
    assert await outbox.count(PENDING) == 0


async def test_one_bad_event_among_many_is_refused_and_none_is_stored(outbox: Outbox) -> None:
    events = [Event("order.placed", {"n": n}) for n in range(25)] + [
        Event("order.placed", {"items": [{"price": float("nan")}]})
    ]
    with pytest.raises(UnstorableValueError) as caught:
        await outbox.publish(events)
    assert caught.value.path == "payload.items[0].price"
    assert caught.value.event_id == events[-1].id
    assert await outbox.count(PENDING) == 0


async def test_delayed_event_is_claimed_only_once_it_is_due(outbox: Outbox, clock: Clock) -> None:
    await outbox.publish([Event("order.placed")], due_at=clock.now + 60)
    assert await outbox.claim(10) == []
    clock.now += 60
    assert (await claim_one(outbox)).attempt == 1


# Counting


async def test_count_takes_a_status_by_its_name(outbox: Outbox) -> None:
    await outbox.publish([Event("order.placed") for _ in range(3)])
    (claim, *_) = await outbox.claim(1)
    await settle_one(outbox, claim, Failed(error="x"))
    assert [await outbox.count(status) for status in ("PENDING", "PROCESSING", "FAILED")] == [2, 0, 1]


async def test_count_of_completed_events_is_refused(outbox: Outbox) -> None:
    # They are not in the index: the answer would be 0, however many there are.
    for status in (COMPLETED, "COMPLETED"):
        with pytest.raises(ConfigurationError, match=r"completed events are not in the index.*EventCompleted.*Scan"):
            await outbox.count(status)


async def test_count_of_an_unknown_status_is_refused(outbox: Outbox) -> None:
    unknown: list[Any] = ["failed", "DONE", "", None, 1, ["FAILED"]]
    for status in unknown:
        with pytest.raises(ConfigurationError, match="must be PENDING, PROCESSING, FAILED or HELD"):
            await outbox.count(status)


# Dead letters


async def test_occurred_at_is_kept_to_the_microsecond_in_utc(outbox: Outbox) -> None:
    from datetime import timezone

    local = datetime(2026, 5, 1, 12, 0, 0, 123456, timezone(timedelta(hours=2)))
    await outbox.publish([Event("order.placed", occurred_at=local)])
    assert (await claim_one(outbox)).event.occurred_at.isoformat() == "2026-05-01T10:00:00.123456+00:00"
