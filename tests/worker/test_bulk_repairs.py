"""Bulk repairs: a selector meets no new failures, a rate is kept, and a call that was interrupted can be made again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Event,
    EventStatus,
    FailedSelector,
    InMemoryOutbox,
    OutboxEventBus,
    Reject,
    RepairRefusedError,
    StorageError,
    UnavailableError,
)
from dynamodb_outbox.repairing import matching
from tests.fakes import ScriptedOutbox
from tests.virtual_time import VirtualTime

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, *_ = EventStatus
DOWN = UnavailableError(operation="update_item", attempts=1, reason="down", maybe_applied=False)


class Bank:
    """A handler that fails while the bank is down."""

    def __init__(self) -> None:
        self.is_down = True
        self.calls: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.calls.append(event.id)
        if self.is_down:
            raise Reject("the bank is down") if event.type == "refund" else ValueError("no order")


@pytest.fixture
def bank(bus: OutboxEventBus) -> Bank:
    handler = Bank()
    bus.subscribe(["refund", "order"], handler, name="bank", max_retries=0)
    return handler


async def fail(bus: OutboxEventBus, count: int, *, type: str = "refund") -> list[str]:
    """Emit events that fail, one after the other, and return their ids."""
    ids = [f"{type}{number}" for number in range(count)]
    await bus.emit_many([Event(type, id=each) for each in ids])
    while await bus.run_once():
        await anyio.sleep(0.01)
    return ids


def now(time: VirtualTime) -> datetime:
    return datetime.fromtimestamp(time.clock(), UTC)


# Selectors


async def test_selector_chooses_by_type_error_and_time(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, virtual_time: VirtualTime
) -> None:
    refunds = await fail(bus, 3)
    await anyio.sleep(10)
    between = now(virtual_time)
    await anyio.sleep(10)
    orders = await fail(bus, 2, type="order")

    async def chosen(**fields: Any) -> set[str]:
        return {event.id async for event in matching(outbox, FailedSelector(**fields))}

    assert await chosen() == {*refunds, *orders}
    assert await chosen(type="refund") == {*refunds}
    assert await chosen(error_type="ValueError") == {*orders}
    assert await chosen(error_handler="bank", before=between) == {*refunds}
    assert await chosen(type="order", before=between) == set()
    assert await chosen(error_handler="another") == set()


async def test_bulk_retry_ends_though_its_events_fail_again_at_once(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank
) -> None:
    async with bus:
        ids = [event.id for event in await bus.emit_many([Event("refund") for _ in range(250)])]
        await bus.drain(timeout=100)
        with anyio.fail_after(1000):
            repaired = await bus.retry_events(FailedSelector(), rate=50)
        await bus.drain(timeout=100)
    assert sorted(repaired.done) == sorted(ids)
    assert len(bank.calls) == 2 * len(ids)
    assert await outbox.count(FAILED) == len(ids)


async def test_event_that_changed_after_it_was_listed_is_refused(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank
) -> None:
    ids = await fail(bus, 3)
    listed, seen = outbox.list_events, list[str]()

    async def list_events(*args: Any, **options: Any) -> Any:
        page = await listed(*args, **options)
        if not seen:  # another operator is faster, and the event fails again
            seen.append(ids[1])
            await outbox.redrive([ids[1]])
            await anyio.sleep(0.1)
            await bus.run_once()
        return page

    outbox.list_events = list_events  # type: ignore[method-assign]
    repaired = await bus.retry_events(FailedSelector())
    assert (set(repaired.done), repaired.refused) == ({ids[0], ids[2]}, {ids[1]: FAILED})


async def test_event_that_failed_in_the_same_millisecond_is_meant() -> None:
    # The failure is stored as the next full millisecond.
    bus = OutboxEventBus(InMemoryOutbox(clock=lambda: 1_790_000_000.0007, on_error=lambda error: None))
    bus.subscribe(["refund"], Bank(), name="bank")
    await bus.emit("refund", id="e")
    await bus.run_once()
    assert (await bus.retry_events(FailedSelector())).done == ("e",)


# Rate, progress, interruption


@pytest.mark.parametrize(("rate", "seconds"), [(10, 12), (100, 1.2), (0.5, 240), (None, 0)])
async def test_rate_is_kept(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, virtual_time: VirtualTime, *, rate: Any, seconds: float
) -> None:
    ids, progress = await fail(bus, 120), list[tuple[float, int]]()
    began = virtual_time.time()
    repaired = await bus.retry_events(
        ids, rate=rate, on_progress=lambda done: progress.append((virtual_time.time() - began, done))
    )
    assert len(repaired.done) == 120
    assert virtual_time.time() - began == pytest.approx(seconds, rel=0.25, abs=0.01)
    assert progress[-1][1] == 120
    for at, done in progress:
        assert rate is None or done <= rate * at + max(rate / 5, 1) + 0.001


async def test_call_that_stood_still_does_not_catch_up_in_a_burst(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await fail(bus, 60)
    redrive, calls = outbox.redrive, list[float]()

    async def slow(ids: Any, **options: Any) -> Any:
        if len(calls) == 1:
            await anyio.sleep(100)
        calls.append(virtual_time.time())
        return await redrive(ids, **options)

    monkeypatch.setattr(outbox, "redrive", slow)
    await bus.retry_events(ids, rate=1)
    # The one after the slow call was due meanwhile.
    assert min(later - earlier for earlier, later in pairwise(calls[2:])) >= 0.99


async def test_call_that_was_cancelled_is_continued_by_the_same_call(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, virtual_time: VirtualTime
) -> None:
    ids, progress = await fail(bus, 100), list[int]()
    selector = FailedSelector(before=now(virtual_time))
    with anyio.move_on_after(5):
        await bus.retry_events(selector, rate=10, on_progress=progress.append)
    assert 40 <= progress[-1] <= 60
    repaired = await bus.retry_events(selector)
    assert len(repaired.done) == 100 - progress[-1]
    assert await outbox.count(PENDING) == len(ids)


async def test_call_that_failed_is_continued_by_the_same_call(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fail(bus, 150)
    redrive, calls = outbox.redrive, list[int]()

    async def once_down(ids: Any, **options: Any) -> Any:
        calls.append(len(ids))
        if len(calls) == 2:
            raise DOWN
        return await redrive(ids, **options)

    monkeypatch.setattr(outbox, "redrive", once_down)
    with pytest.raises(StorageError):
        await bus.retry_events(FailedSelector())
    assert len((await bus.retry_events(FailedSelector())).done) == 50
    assert await outbox.count(PENDING) == 150


async def test_progress_callback_that_raises_ends_the_call(bus: OutboxEventBus, bank: Bank) -> None:
    ids = await fail(bus, 3)

    def stop(done: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        await bus.retry_events(ids, on_progress=stop)


# Discards and replacements of the bus


async def test_discard_of_a_selection_names_the_operator(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank
) -> None:
    ids = await fail(bus, 3)
    repaired = await bus.discard_events(FailedSelector(type="refund"), reason="sent twice")
    assert set(repaired.done) == set(ids)
    event = await bus.get_event(ids[0])
    assert event is not None
    assert event.discarded_by is not None
    assert "@" in event.discarded_by


async def test_replacement_keeps_what_the_event_was_about(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank
) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    await bus.emit("refund", {"amount": 5}, id="old", occurred_at=at, metadata={"tenant": "a"})
    await bus.run_once()
    bank.is_down = False
    event = await bus.replace_event("old", {"amount": 50}, reason="in cents", by="ada")
    assert (event.type, event.payload, event.occurred_at) == ("refund", {"amount": 50}, at)
    assert event.metadata == {"tenant": "a", "replaces": "old"}
    assert event.id != "old"
    assert await bus.run_once() == 1
    assert bank.calls == ["old", event.id]
    with pytest.raises(RepairRefusedError, match=f"replaced by event '{event.id}'") as refused:
        await bus.replace_event("old", {"amount": 5}, reason="again")
    assert (refused.value.status, refused.value.replaced_by) == (DISCARDED, event.id)


async def test_replacement_of_nothing_is_refused(bus: OutboxEventBus) -> None:
    with pytest.raises(RepairRefusedError, match="there is no such event"):
        await bus.replace_event("nobody", {}, reason="no")


async def test_event_that_changes_while_it_is_replaced_is_not_replaced(
    bus: OutboxEventBus, outbox: ScriptedOutbox, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event_id,) = await fail(bus, 1)
    replace = outbox.replace

    async def late(*args: Any, **options: Any) -> Any:
        bank.is_down = False
        await outbox.redrive([event_id])
        await bus.run_once()
        return await replace(*args, **options)

    monkeypatch.setattr(outbox, "replace", late)
    with pytest.raises(RepairRefusedError, match="it is COMPLETED"):
        await bus.replace_event(event_id, {}, reason="no")
    assert len(outbox.stored_ids) == 1


# Arguments


async def test_skip_takes_no_selector_because_it_gives_the_order_up(bus: OutboxEventBus) -> None:
    selector: Any = FailedSelector(type="refund")
    with pytest.raises(ConfigurationError, match="ids must be a list of ids"):
        await bus.skip_events(selector)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda bus: bus.discard_events(["e"], reason=""), "reason"),
        (lambda bus: bus.discard_events(["e"], reason="x" * 501), "reason"),
        (lambda bus: bus.discard_events(["e"], reason="r", by=" "), "by"),
        (lambda bus: bus.discard_events("e", reason="r"), "list of ids"),
        (lambda bus: bus.retry_events(["e"], rate=0), "rate"),
        (lambda bus: bus.replace_event("e", {}, reason=None), "reason"),
        (lambda bus: bus.hold("", reason="r"), "type"),
        (lambda bus: bus.hold("t", reason="r", until=datetime(2026, 1, 1)), "until"),  # noqa: DTZ001
        (lambda bus: bus.hold("t", reason="r", until=datetime(2020, 1, 1, tzinfo=UTC)), "in the past"),
        (lambda bus: bus.hold("t", reason="r", until=timedelta(minutes=5)), "until"),
        (lambda bus: bus.resume(5), "type"),
    ],
)
async def test_bad_arguments_are_refused(bus: OutboxEventBus, call: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await call(bus)
