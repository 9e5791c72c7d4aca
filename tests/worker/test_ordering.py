"""A worker handles the events of an ordering key one at a time, in order, and hands the key on when it stops."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, EventStatus, LeaseLostError, OutboxEventBus, Reject, UnavailableError
from dynamodb_outbox.adapter import Completed
from dynamodb_outbox.observers import EventCompleted, EventFailed, KeyBlocked, LeaseLost, Published
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, QUEUED = EventStatus
KEY = "order-17"


def ids_of(recorder: Recorder) -> list[str]:
    return [event.id for event in recorder.events]


async def emit(bus: OutboxEventBus, *ids: str, key: str | None = KEY, type: str = "order.paid") -> None:
    await bus.emit_many([Event(type, id=each, ordering_key=key) for each in ids])


def kept(outbox: ScriptedOutbox) -> list[bool]:
    """Whether each settle might hand on the next event of a key."""
    return [call.options["keep_keys"] for call in outbox.calls["settle"]]


@pytest.fixture
def told(bus: OutboxEventBus) -> list[Any]:
    observations: list[Any] = []
    bus.add_observer(observations.append)
    return observations


# Order


@pytest.mark.parametrize("claim_on_emit", [True, False])
async def test_each_key_keeps_its_order_through_retries(claim_on_emit: bool) -> None:
    bus = OutboxEventBus(quick_outbox(claim_on_emit=claim_on_emit))
    ended: list[str] = []
    running: set[str | None] = set()

    @bus.on("order.paid")
    async def handle(event: Event, delivery: Delivery) -> None:
        assert event.ordering_key not in running
        running.add(event.ordering_key)
        await anyio.sleep(0.001)
        running.discard(event.ordering_key)
        if event.id.endswith("3") and delivery.attempt < 3:
            raise ValueError(event.id)
        ended.append(event.id)

    async with bus:
        for number in range(30):
            for key in "ab":
                await emit(bus, f"{key}{number:02}", key=key)
        await bus.drain(60)
    for key in "ab":
        assert [each for each in ended if each[0] == key] == [f"{key}{number:02}" for number in range(30)]


async def test_next_event_takes_the_slot_of_the_one_before_it_without_a_poll(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=60.0, concurrency=1, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    ids = [f"e{number}" for number in range(5)]
    await emit(bus, *ids)
    async with bus:
        await anyio.sleep(1)
        assert ids_of(handler) == ids
        assert [claim.event.id for claim in outbox.claims] == ["e0"]
    assert errors == []


async def test_worker_polls_at_once_for_a_busy_key_that_it_had_to_give_up() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    await emit(bus, *(f"e{number}" for number in range(120)))
    async with bus:
        await anyio.sleep(1)
        assert len(handler.events) == 120
        assert len(outbox.claims) == 3


# Claim on emit


async def test_only_the_first_event_of_a_key_gets_a_slot() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    async with bus:
        await emit(bus, "a", "b", "c")
        await anyio.sleep(1)
    assert outbox.claimed_on_emit == [1]
    assert ids_of(handler) == ["a", "b", "c"]


async def test_events_that_wait_give_their_slots_back(told: list[Any], bus: OutboxEventBus) -> None:
    go_on, free = anyio.Event(), Recorder()

    @bus.on("order.paid")
    async def wait(event: Event) -> None:
        await go_on.wait()

    bus.on("user.created", free)
    async with bus:
        for number in range(200):
            await emit(bus, f"e{number}")
        worker = bus._lifecycle.worker
        assert worker is not None
        assert worker._slots.taken == 1
        await emit(bus, "free", key=None, type="user.created")
        await anyio.sleep(1)
        assert ids_of(free) == ["free"]
        go_on.set()
        await bus.drain(60)
    assert [each.event_id for each in told if isinstance(each, Published)] == [*(f"e{n}" for n in range(200)), "free"]


async def test_transaction_reserves_a_slot_for_the_first_event_of_each_key_that_is_due() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    async with bus:
        await anyio.sleep(1)
        async with bus.transaction() as tx:
            for event_id, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("free", None)):
                tx.emit("order.paid", id=event_id, ordering_key=key)
            tx.emit("order.paid", id="later", delay=600)
        await anyio.sleep(1)
    assert sorted(outbox.calls["transact"][0].options["emit_claim"].tokens) == ["a1", "b1", "free"]
    assert sorted(ids_of(handler)) == ["a1", "a2", "b1", "free"]
    assert outbox.claims == []


async def test_delivery_transaction_reserves_no_slot_for_an_event_of_its_own_key() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    handled: list[str] = []

    @bus.on("order.paid")
    async def handle(event: Event, delivery: Delivery) -> None:
        handled.append(event.id)
        if event.id == "a":
            async with delivery.transaction() as tx:
                tx.emit("order.paid", id="b", ordering_key=KEY)
                tx.emit("order.paid", id="other", ordering_key="order-18")

    async with bus:
        await emit(bus, "a")
        await anyio.sleep(1)
    assert list(outbox.calls["transact"][0].options["emit_claim"].tokens) == ["other"]
    assert sorted(handled) == ["a", "b", "other"]


async def test_worker_polls_for_an_event_of_a_transaction_that_was_stored_without_its_claim() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    async with bus:
        await anyio.sleep(1)
        # Another process begins the queue, and this worker does not know of it.
        await outbox.publish([Event("order.paid", id="a", ordering_key=KEY)])
        async with bus.transaction() as tx:
            tx.emit("order.paid", id="b", ordering_key=KEY)
        await anyio.sleep(1)
        assert ids_of(handler) == ["a", "b"]


async def test_worker_polls_after_a_cancelled_emit_whose_event_was_not_claimed() -> None:
    outbox = ScriptedOutbox(poll_interval=60.0)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    async with bus:
        await anyio.sleep(1)
        gate = outbox.pause("publish", when=lambda call: call.options["emit_claim"] is not None)
        emitting = asyncio.create_task(emit(bus, "b"))
        await gate.reached.wait()
        emitting.cancel()
        await asyncio.wait([emitting])
        # Another process begins the queue before this write is carried out.
        await outbox.publish([Event("order.paid", id="a", ordering_key=KEY)])
        gate.open()
        await anyio.sleep(1)
        assert ids_of(handler) == ["a", "b"]


# Failures


async def test_failed_event_blocks_its_key_and_observers_hear_of_it(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[str] = []

    @bus.on("order.paid")
    async def refuse(event: Event) -> None:
        handled.append(event.id)
        if event.id == "a":
            raise Reject("no")

    async with bus:
        await emit(bus, "a", "b")
        await emit(bus, "c", key="order-18")
        await bus.drain(60)
        assert sorted(handled) == ["a", "c"]
        assert outbox.status_of("b") is QUEUED
        assert await bus.skip_events(["a"])
        await bus.drain(60)
    assert sorted(handled) == ["a", "b", "c"]
    blocked = [each for each in told if isinstance(each, KeyBlocked)]
    assert blocked == [KeyBlocked(ordering_key=KEY, event_id="a", event_type="order.paid")]
    kinds = [type(each) for each in told if isinstance(each, (EventFailed, KeyBlocked))]
    assert kinds == [EventFailed, KeyBlocked]
    (line,) = [line for line in caplog.messages if "is blocked by its event" in line]
    assert line.startswith("the ordering key 'order-17' is blocked by its event 'a'")


@pytest.mark.parametrize("repair", ["discard", "replace"])
async def test_key_goes_on_at_once_after_a_repair_of_this_bus(repair: str) -> None:
    bus = OutboxEventBus(ScriptedOutbox(poll_interval=60.0, on_error=lambda _: None))
    handled: list[Any] = []

    @bus.on("order.paid")
    async def refuse(event: Event) -> None:
        handled.append(event.id if event.payload is None else event.payload)
        if event.id == "a":
            raise Reject("no")

    async with bus:
        await emit(bus, "a", "b")
        await bus.drain(60)
        if repair == "discard":
            assert await bus.discard_events(["a"], reason="sent twice")
        else:
            await bus.replace_event("a", "corrected", reason="in cents")
        await bus.drain(1)  # long before the next poll
    assert handled == (["a", "b"] if repair == "discard" else ["a", "corrected", "b"])


async def test_key_goes_on_without_a_failed_event_where_that_is_chosen(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=60.0, failed_key="skip", on_error=errors.append)
    bus = OutboxEventBus(outbox)
    told: list[Any] = []
    bus.add_observer(told.append)
    handled: list[str] = []

    @bus.on("order.paid")
    async def refuse(event: Event) -> None:
        handled.append(event.id)
        if event.id != "c":
            raise Reject("no")

    async with bus:
        await emit(bus, "a", "b", "c")
        await emit(bus, "free", key=None)
        await anyio.sleep(1)
    assert [each for each in handled if each != "free"] == ["a", "b", "c"]
    assert [outbox.status_of(each) for each in "abc"] == [FAILED, FAILED, COMPLETED]
    assert [each for each in told if isinstance(each, KeyBlocked)] == []


async def test_lost_key_is_not_gone_on_with(outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]) -> None:
    bus.on("order.paid", handler := Recorder())
    outbox.refuse("settle", LeaseLostError(event_id="a", event_type="order.paid", outcome="complete"), nth=1)
    async with bus:
        await emit(bus, "a", "b")
        await anyio.sleep(1)
        assert ids_of(handler) == ["a"]
        assert not bus._lifecycle.worker.busy  # type: ignore[union-attr]
    assert [type(error) for error in errors] == [LeaseLostError]


async def test_key_is_recovered_after_a_settle_that_failed(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.1, processing_timeout=1.0, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.paid", handler := Recorder())
    outbox.fail("settle", UnavailableError(operation="a settle", attempts=1, reason="down", maybe_applied=True), nth=1)
    async with bus:
        await emit(bus, "a", "b")
        await bus.drain(100)
    assert ids_of(handler) == ["a", "a", "b"]


# Stopping


async def test_stop_leaves_the_next_event_to_others_at_once(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    began, go_on = anyio.Event(), anyio.Event()

    @bus.on("order.paid")
    async def wait(event: Event) -> None:
        assert event.id == "a"
        began.set()
        await go_on.wait()

    await bus.start()
    await emit(bus, "a", "b")
    await began.wait()
    stopping = asyncio.create_task(bus.stop())
    await anyio.sleep(0.1)
    go_on.set()
    await stopping
    assert [outbox.status_of(each) for each in "ab"] == [COMPLETED, PENDING]
    assert kept(outbox) == [False]


@pytest.mark.parametrize("timeout", [None, 0.0])
async def test_event_that_is_handed_on_after_a_stop_began_is_released(
    outbox: ScriptedOutbox, bus: OutboxEventBus, timeout: float | None
) -> None:
    bus.on("order.paid", handler := Recorder())
    gate = outbox.pause("settle", after=True, nth=1)
    await bus.start()
    await emit(bus, "a", "b")
    await gate.reached.wait()
    stopping = asyncio.create_task(bus.stop(timeout))
    await anyio.sleep(0.1)
    gate.open()
    await stopping
    assert ids_of(handler) == ["a"]
    assert [outbox.status_of(each) for each in "ab"] == [COMPLETED, PENDING]
    assert outbox.stored("b").retry_count == 0
    assert kept(outbox) == [True, False]


async def test_stop_at_the_deadline_releases_the_key(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    began = anyio.Event()

    @bus.on("order.paid")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    await bus.start()
    await emit(bus, "a", "b")
    await began.wait()
    await bus.stop(0.1)
    assert [outbox.status_of(each) for each in "ab"] == [PENDING, QUEUED]
    assert outbox.stored("a").retry_count == 0


async def test_run_once_handles_one_event_of_each_key(outbox: ScriptedOutbox, bus: OutboxEventBus) -> None:
    bus.on("order.paid", handler := Recorder())
    await emit(bus, "a1", "a2", key="a")
    await emit(bus, "b1", key="b")
    assert await bus.run_once() == 2
    assert outbox.status_of("a2") is PENDING
    assert await bus.run_once() == 1
    assert await bus.run_once() == 0
    assert ids_of(handler) == ["a1", "b1", "a2"]
    assert not any(kept(outbox))


# Transactions of handlers


async def test_key_goes_on_after_a_transaction_that_completed_the_event(
    outbox: ScriptedOutbox, bus: OutboxEventBus, told: list[Any]
) -> None:
    handled: list[str] = []

    @bus.on("order.paid")
    async def pay(event: Event, delivery: Delivery) -> None:
        handled.append(event.id)
        async with delivery.transaction() as tx:
            if event.id == "a":
                tx.emit("order.paid", id="child", ordering_key=KEY)

    async with bus:
        await emit(bus, "a", "b")
        await bus.drain(60)
    assert handled == ["a", "b", "child"]
    completed = [each.event_id for each in told if isinstance(each, EventCompleted)]
    assert completed == ["a", "b", "child"]
    assert [outbox.status_of(each) for each in handled] == [COMPLETED] * 3


async def test_next_event_waits_for_what_a_handler_does_after_its_transaction(errors: list[Any]) -> None:
    outbox = quick_outbox(processing_timeout=1.0, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    steps: list[str] = []

    @bus.on("order.paid", timeout=10)
    async def pay(event: Event, delivery: Delivery) -> None:
        steps.append(f"{event.id} begins")
        async with delivery.transaction():
            pass
        await anyio.sleep(3)
        steps.append(f"{event.id} ends")

    async with bus:
        await emit(bus, "a", "b")
        await bus.drain(60)
    assert steps == ["a begins", "a ends", "b begins", "b ends"]
    assert errors == []


async def test_key_that_was_lost_after_the_transaction_is_no_error(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    @bus.on("order.paid")
    async def pay(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction():
            pass

    outbox.refuse("settle", LeaseLostError(event_id="a", event_type="order.paid", outcome="complete"), nth=1)
    async with bus:
        await emit(bus, "a")
        await anyio.sleep(1)
    assert errors == []
    assert [each.event_id for each in told if isinstance(each, EventCompleted)] == ["a"]
    assert [each for each in told if isinstance(each, LeaseLost)] == []
    assert isinstance(outbox.calls["settle"][0].argument[0][1], Completed)


# Holds


async def test_next_event_of_a_held_type_is_not_started() -> None:
    outbox, handler = ScriptedOutbox(poll_interval=0.1), Recorder()
    bus = OutboxEventBus(outbox)
    bus.subscribe(["order.paid", "refund"], handler)
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "a")
        await emit(bus, "r", type="refund")
        await emit(bus, "b")
        await anyio.sleep(1)
        assert (ids_of(handler), outbox.status_of("r")) == (["a"], HELD)
        assert await bus.resume("refund") == 1
        await anyio.sleep(10)
    assert ids_of(handler) == ["a", "r", "b"]


async def test_worker_keeps_no_key_while_all_types_are_held(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    began, go_on = anyio.Event(), anyio.Event()

    @bus.on("order.paid")
    async def wait(event: Event) -> None:
        began.set()
        await go_on.wait()

    async with bus:
        await emit(bus, "a", "b")
        await began.wait()
        await bus.hold(reason="deploy", by="ada")
        await emit(bus, "other", key=None)  # the worker reads the holds for it
        await anyio.sleep(1)
        go_on.set()
        await anyio.sleep(1)
        assert outbox.status_of("b") is PENDING
        assert outbox.stored("b").started_at is None


# Waiting


async def test_drain_finds_a_queue_that_goes_back_and_forth() -> None:
    class Alternating(ScriptedOutbox):
        """A queue that is PROCESSING when PENDING events are counted, and the other way round, for a while."""

        def __init__(self) -> None:
            super().__init__(poll_interval=0.01)
            self.counts: list[EventStatus | str] = []

        async def count(self, status: EventStatus | str) -> int:
            self.counts.append(status)
            looks = len(self.counts)
            now = None if looks > 30 else PENDING if looks % 2 == 0 else PROCESSING
            return int(status == now)

    outbox = Alternating()
    await OutboxEventBus(outbox).drain(60)
    assert outbox.counts[:3] == [PENDING, PROCESSING, PENDING]
    assert len(outbox.counts) > 30
