"""Claim on emit: events that are handled where they are emitted need no poll and no second write."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    EventStatus,
    InMemoryOutbox,
    OutboxEventBus,
    PartialPublishError,
    UnavailableError,
)
from dynamodb_outbox.port import Outbox
from tests.fakes import ScriptedOutbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus
DOWN = UnavailableError(operation="put_item", attempts=1, reason="down", maybe_applied=True)


def outbox_of(errors: list[Any], **options: Any) -> ScriptedOutbox:
    """An outbox whose worker polls so rarely that what is claimed soon was claimed on emit."""
    return ScriptedOutbox(**({"poll_interval": 60.0, "base_backoff": 0.0, "on_error": errors.append} | options))


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def outbox(errors: list[Any]) -> ScriptedOutbox:
    return outbox_of(errors)


@pytest.fixture
def bus(outbox: Outbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


class Handler:
    """Records events, and waits for its gate."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.gate = anyio.Event()
        self.gate.set()

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        await self.gate.wait()


async def settled(bus: OutboxEventBus) -> None:
    with anyio.fail_after(5):
        await bus.drain()


async def test_event_is_stored_claimed_and_handled_without_a_poll(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    bus.on("order.placed", handler := Handler())
    async with bus:
        event = await bus.emit("order.placed", {"n": 1})
        await settled(bus)
    assert handler.events == [event]
    assert (outbox.claimed_on_emit, outbox.claims) == ([1], [])
    assert outbox.status_of(event.id) is COMPLETED


async def test_payload_is_what_the_table_would_return(bus: OutboxEventBus) -> None:
    bus.on("order.placed", handler := Handler())
    async with bus:
        await bus.emit("order.placed", {"pair": (1, 2)})
        await settled(bus)
    assert handler.events[0].payload == {"pair": [1, 2]}


@pytest.mark.parametrize("why", ["no worker", "no handler", "delay", "switch", "stopping"])
async def test_event_is_stored_pending_when_it_cannot_be_claimed_on_emit(why: str, errors: list[Any]) -> None:
    outbox = outbox_of(errors, claim_on_emit=why != "switch")
    bus = OutboxEventBus(outbox)
    bus.on("other" if why == "no handler" else "order.placed", handler := Handler())
    if why != "no worker":
        await bus.start()
    if why == "stopping":
        handler.gate = anyio.Event()
        await bus.emit("order.placed")
        stopping = asyncio.create_task(bus.stop())
        await anyio.sleep(0.01)
    await bus.emit("order.placed", delay=60 if why == "delay" else None)
    assert outbox.claimed_on_emit[-1] == 0
    if why == "stopping":
        handler.gate.set()
        await stopping
    await bus.stop()


async def test_polling_keeps_a_share_of_the_slots(errors: list[Any]) -> None:
    outbox = outbox_of(errors, concurrency=8)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handler := Handler())
    handler.gate = anyio.Event()
    async with bus:
        await bus.emit_many([Event("order.placed") for _ in range(20)])
        assert outbox.claimed_on_emit == [6]
        with anyio.fail_after(5):
            while len(handler.events) < 8:
                await anyio.sleep(0.001)
        await bus.emit("order.placed")
        assert outbox.claimed_on_emit == [6, 0]
        handler.gate.set()
        await settled(bus)
    assert len(handler.events) == 21
    assert errors == []


@pytest.mark.parametrize("total", [1, 4, 8])
async def test_claims_on_emit_leave_the_slots_that_a_running_poll_may_take(total: int, errors: list[Any]) -> None:
    outbox = outbox_of(errors, concurrency=total, batch_size=100, poll_interval=0.01)
    outbox.delay("claim", 0.005, after=True)
    bus = OutboxEventBus(outbox)
    running: list[int] = [0]

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        running.append(running[-1] + 1)
        await anyio.sleep(0.02)
        running.append(running[-1] - 1)

    await bus.emit_many([Event("order.placed") for _ in range(30)])
    async with bus:
        for _ in range(30):
            await bus.emit("order.placed")
            await anyio.sleep(0.003)
        await bus.drain(60)
    assert max(running) == total
    # A poll takes the only slot; of several, claims on emit have some.
    assert total == 1 or sum(outbox.claimed_on_emit) > 0
    assert errors == []


async def test_duplicate_ids_do_not_keep_slots(errors: list[Any]) -> None:
    outbox = outbox_of(errors, concurrency=4)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", Handler())
    async with bus:
        event = Event("order.placed")
        for _ in range(5):
            with pytest.raises(DuplicateEventError):
                await bus.emit_many([event, event])
            with pytest.raises(DuplicateEventError):
                async with bus.transaction() as tx:
                    tx.emit(event)
                    tx.emit(event)
        await bus.emit("order.placed")
        assert outbox.claimed_on_emit[-1] == 1
        await bus.drain(5)


async def test_events_that_wait_behind_others_of_their_key_take_no_slots(errors: list[Any]) -> None:
    outbox = outbox_of(errors, concurrency=8)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handler := Handler())
    async with bus:
        ordered = [Event("order.placed", {"n": n}, ordering_key="order-17") for n in range(10)]
        await bus.emit_many([*ordered, Event("order.placed", ordering_key="order-18"), Event("order.placed")])
        assert outbox.claimed_on_emit == [3]
        await settled(bus)
    assert [event.payload["n"] for event in handler.events if event.ordering_key == "order-17"] == list(range(10))
    assert len(handler.events) == 12
    assert errors == []


async def test_transaction_is_handled_after_its_commit(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    bus.on("order.placed", handler := Handler())
    async with bus:
        async with bus.transaction() as tx:
            now = tx.emit("order.placed")
            later = tx.emit("order.placed", delay=60)
            await anyio.sleep(0.01)
            assert handler.events == []
        with anyio.fail_after(5):
            while outbox.status_of(now.id) is not COMPLETED:
                await anyio.sleep(0.001)
    assert (handler.events, outbox.claims) == ([now], [])
    assert outbox.status_of(later.id) is PENDING


async def test_failed_write_gives_the_slots_back(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any]
) -> None:
    bus.on("order.placed", Handler())
    async with bus:
        outbox.fail("publish", DOWN)
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await bus.emit("order.placed")
        outbox.restore("publish")
        assert set(outbox.claimed_on_emit) == {1}
        await bus.emit("order.placed")
        await settled(bus)
    assert errors == []


async def test_duplicates_give_their_slots_back_and_the_others_are_handled(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    bus.on("order.placed", handler := Handler())
    async with bus:
        for _ in range(50):
            outcome: Any = None
            try:
                await bus.emit_many([Event("order.placed", id="same"), Event("order.placed")])
            except PartialPublishError as error:
                outcome = error
            await settled(bus)
        assert outcome.failed[0].id == "same"
    assert len(handler.events) == 51
    assert outbox.claimed_on_emit == [2] * 50


async def test_emit_whose_caller_is_cancelled_is_handled_all_the_same(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    bus.on("order.placed", handler := Handler())
    async with bus:
        gate = outbox.pause("publish")
        emitting = asyncio.create_task(bus.emit("order.placed"))
        await anyio.sleep(0.01)
        emitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await emitting
        gate.open()
        with anyio.fail_after(5):
            while not handler.events:
                await anyio.sleep(0.001)
        await settled(bus)
    assert outbox.claims == []


async def test_write_that_is_acknowledged_during_a_stop_is_released(
    outbox: ScriptedOutbox, bus: OutboxEventBus
) -> None:
    bus.on("order.placed", handler := Handler())
    await bus.start()
    gate = outbox.pause("publish")
    emitting = asyncio.create_task(bus.emit("order.placed", id="e"))
    await anyio.sleep(0.01)
    stopping = asyncio.create_task(bus.stop(timeout=1))
    await anyio.sleep(0.01)
    gate.open()
    with anyio.fail_after(5):
        await emitting
        await stopping
    assert (handler.events, outbox.status_of("e")) == ([], PENDING)


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_write_that_is_acknowledged_after_the_end_is_released(
    outbox: ScriptedOutbox, bus: OutboxEventBus, is_cancelled: bool
) -> None:
    gate = outbox.pause("publish")
    handled: list[str] = []

    async def handler(event: Event) -> None:
        handled.append(event.id)

    bus.on("order.placed", handler)
    await bus.start()
    emit = asyncio.create_task(bus.emit_many([Event("order.placed", id="a"), Event("order.placed", id="b")]))
    while not outbox.claimed_on_emit:
        await asyncio.sleep(0)
    if is_cancelled:
        (owner,) = (task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker")
        owner.cancel()
    await bus.stop(0)
    gate.open()
    await emit
    # No lease is left that would have to run out, and no attempt is counted.
    assert (await outbox.count(PENDING), await outbox.count(PROCESSING)) == (2, 0)
    assert [claim.attempt for claim in await outbox.claim(10)] == [1, 1]
    assert handled == []


async def test_write_that_took_most_of_the_lease_is_released(errors: list[Any]) -> None:
    now = 1_790_000_000.0
    outbox = outbox_of(errors, clock=lambda: now)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handler := Handler())

    async def respond_late() -> None:
        nonlocal now
        now += 20

    outbox.script("publish", respond_late, after=True)
    async with bus:
        await bus.emit("order.placed", id="e")
        await bus.stop()
    assert (handler.events, outbox.status_of("e"), errors) == ([], PENDING, [])


async def test_handler_runs_in_the_context_of_the_worker_and_may_stop_it(bus: OutboxEventBus) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        seen.append(request.get())
        await bus.stop()

    with anyio.fail_after(5):
        await bus.start()
        request.set("of the emitter")
        await bus.emit("order.placed")
        while bus.running:
            await anyio.sleep(0.001)
        await bus.stop()
    assert seen == ["none"]


async def test_claim_on_emit_must_be_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match="claim_on_emit='no': it must be True or False"):
        InMemoryOutbox(claim_on_emit="no")  # type: ignore[arg-type]  # what is refused
