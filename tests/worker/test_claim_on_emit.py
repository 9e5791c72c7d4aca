"""Claimed at emit_claim: events that are handled where they are emitted need no poll and no second write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Claim,
    ConfigurationError,
    DuplicateEventError,
    EmitClaim,
    Event,
    EventStatus,
    InMemoryOutbox,
    OutboxEventBus,
    PartialPublishError,
    UnavailableError,
)
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import Report

PENDING, PROCESSING, COMPLETED, FAILED = EventStatus
DOWN = UnavailableError(operation="put_item", attempts=1, reason="down", maybe_applied=True)


class Watched(InMemoryOutbox):
    """Counts claims, and does to publishes what no engine can be asked to do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"poll_interval": 60.0, "base_backoff": 0.0} | options))
        self.claimed = 0
        self.births: list[int] = []
        self.error: Exception | None = None
        self.gate: anyio.Event | None = None

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        claims = await super().claim(limit)
        self.claimed += len(claims)
        return claims

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        self.births.append(len(emit_claim.tokens) if emit_claim else 0)
        if emit_claim is not None:
            emit_claim.sending()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        await super().publish(events, due_at=due_at, emit_claim=emit_claim)


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def outbox(errors: list[Any]) -> Watched:
    return Watched(on_error=errors.append)


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


async def test_event_is_stored_claimed_and_handled_without_a_poll(bus: OutboxEventBus, outbox: Watched) -> None:
    bus.on("t", handler := Handler())
    async with bus:
        event = await bus.emit("t", {"n": 1})
        await settled(bus)
    assert handler.events == [event]
    assert (outbox.births, outbox.claimed) == ([1], 0)
    assert outbox.status_of(event.id) is COMPLETED


async def test_payload_is_what_the_table_would_return(bus: OutboxEventBus) -> None:
    bus.on("t", handler := Handler())
    async with bus:
        await bus.emit("t", {"pair": (1, 2)})
        await settled(bus)
    assert handler.events[0].payload == {"pair": [1, 2]}


@pytest.mark.parametrize("why", ["no worker", "no handler", "delay", "switch", "stopping"])
async def test_event_is_stored_pending_when_it_cannot_be_claimed_on_emit(why: str, errors: list[Any]) -> None:
    outbox = Watched(claim_on_emit=why != "switch", on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("other" if why == "no handler" else "t", handler := Handler())
    if why != "no worker":
        await bus.start()
    if why == "stopping":
        handler.gate = anyio.Event()
        await bus.emit("t")
        stopping = asyncio.create_task(bus.stop())
        await anyio.sleep(0.01)
    await bus.emit("t", delay=60 if why == "delay" else None)
    assert outbox.births[-1] == 0
    if why == "stopping":
        handler.gate.set()
        await stopping
    await bus.stop()


async def test_polling_keeps_a_share_of_the_slots(errors: list[Any]) -> None:
    outbox = Watched(concurrency=8, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("t", handler := Handler())
    handler.gate = anyio.Event()
    async with bus:
        await bus.emit_many([Event("t") for _ in range(20)])
        assert outbox.births == [6]
        with anyio.fail_after(5):
            while len(handler.events) < 8:
                await anyio.sleep(0.001)
        await bus.emit("t")
        assert outbox.births == [6, 0]
        handler.gate.set()
        await settled(bus)
    assert len(handler.events) == 21
    assert errors == []


@pytest.mark.parametrize("total", [1, 4, 8])
async def test_claims_on_emit_leave_the_slots_that_a_running_poll_may_take(total: int, errors: list[Any]) -> None:
    class Slow(Watched):
        async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
            claims = await super().claim(limit)
            await anyio.sleep(0.005)
            return claims

    outbox = Slow(concurrency=total, batch_size=100, poll_interval=0.01, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    running: list[int] = [0]

    @bus.on("t")
    async def handler(event: Event) -> None:
        running.append(running[-1] + 1)
        await anyio.sleep(0.02)
        running.append(running[-1] - 1)

    await bus.emit_many([Event("t") for _ in range(30)])
    async with bus:
        for _ in range(30):
            await bus.emit("t")
            await anyio.sleep(0.003)
        await bus.drain(60)
    assert max(running) == total
    # Of one place a look takes all; of several, births have some.
    assert total == 1 or sum(outbox.births) > 0
    assert errors == []


async def test_duplicate_ids_do_not_keep_slots(errors: list[Any]) -> None:
    outbox = Watched(concurrency=4, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("t", Handler())
    async with bus:
        event = Event("t")
        for _ in range(5):
            with pytest.raises(DuplicateEventError):
                await bus.emit_many([event, event])
            with pytest.raises(DuplicateEventError):
                async with bus.transaction() as tx:
                    tx.emit(event)
                    tx.emit(event)
        await bus.emit("t")
        assert outbox.births[-1] == 1
        await bus.drain(5)


async def test_transaction_is_handled_after_its_commit(bus: OutboxEventBus, outbox: Watched) -> None:
    bus.on("t", handler := Handler())
    async with bus:
        async with bus.transaction() as tx:
            now = tx.emit("t")
            later = tx.emit("t", delay=60)
            await anyio.sleep(0.01)
            assert handler.events == []
        with anyio.fail_after(5):
            while outbox.status_of(now.id) is not COMPLETED:
                await anyio.sleep(0.001)
    assert (handler.events, outbox.claimed) == ([now], 0)
    assert outbox.status_of(later.id) is PENDING


async def test_failed_write_gives_the_slots_back(bus: OutboxEventBus, outbox: Watched, errors: list[Any]) -> None:
    bus.on("t", Handler())
    async with bus:
        outbox.error = DOWN
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await bus.emit("t")
        outbox.error = None
        assert set(outbox.births) == {1}
        await bus.emit("t")
        await settled(bus)
    assert errors == []


async def test_duplicates_give_their_slots_back_and_the_others_are_handled(
    bus: OutboxEventBus, outbox: Watched
) -> None:
    bus.on("t", handler := Handler())
    async with bus:
        for _ in range(50):
            outcome: Any = None
            try:
                await bus.emit_many([Event("t", id="same"), Event("t")])
            except PartialPublishError as error:
                outcome = error
            await settled(bus)
        assert outcome.failed[0].id == "same"
    assert len(handler.events) == 51
    assert outbox.births == [2] * 50


async def test_emit_whose_caller_is_cancelled_is_handled_all_the_same(bus: OutboxEventBus, outbox: Watched) -> None:
    bus.on("t", handler := Handler())
    async with bus:
        outbox.gate = anyio.Event()
        emitting = asyncio.create_task(bus.emit("t"))
        await anyio.sleep(0.01)
        emitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await emitting
        outbox.gate.set()
        with anyio.fail_after(5):
            while not handler.events:
                await anyio.sleep(0.001)
        await settled(bus)
    assert outbox.claimed == 0


async def test_write_that_is_acknowledged_during_a_stop_is_released(outbox: Watched, bus: OutboxEventBus) -> None:
    bus.on("t", handler := Handler())
    await bus.start()
    outbox.gate = anyio.Event()
    emitting = asyncio.create_task(bus.emit("t", id="e"))
    await anyio.sleep(0.01)
    stopping = asyncio.create_task(bus.stop(timeout=1))
    await anyio.sleep(0.01)
    outbox.gate.set()
    with anyio.fail_after(5):
        await emitting
        await stopping
    assert (handler.events, outbox.status_of("e")) == ([], PENDING)


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_write_that_is_acknowledged_after_the_end_is_released(
    outbox: Watched, bus: OutboxEventBus, is_cancelled: bool
) -> None:
    outbox.gate = anyio.Event()
    handled: list[str] = []

    async def handler(event: Event) -> None:
        handled.append(event.id)

    bus.on("t", handler)
    await bus.start()
    emit = asyncio.create_task(bus.emit_many([Event("t", id="a"), Event("t", id="b")]))
    while not outbox.births:
        await asyncio.sleep(0)
    if is_cancelled:
        (owner,) = (task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker")
        owner.cancel()
    await bus.stop(0)
    outbox.gate.set()
    await emit
    # No lease is left that would have to run out, and no attempt is counted.
    assert (await outbox.count(PENDING), await outbox.count(PROCESSING)) == (2, 0)
    assert [claim.attempt for claim in await outbox.claim(10)] == [1, 1]
    assert handled == []


async def test_write_that_took_most_of_the_lease_is_released(errors: list[Any]) -> None:
    now = 1_790_000_000.0
    outbox = Watched(clock=lambda: now, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("t", handler := Handler())
    claims: list[Claim] = []

    async def publish(events: Any, *, due_at: Any = None, emit_claim: Any = None) -> None:
        nonlocal now
        kept = EmitClaim(tokens=emit_claim.tokens, claimed=claims.append)
        await InMemoryOutbox.publish(outbox, events, due_at=due_at, emit_claim=kept)
        now += 20
        for claim in claims:
            emit_claim.claimed(claim)

    async with bus:
        outbox.publish = publish  # type: ignore[method-assign]  # tells of its claims late
        await bus.emit("t", id="e")
        await bus.stop()
    assert (handler.events, outbox.status_of("e"), errors) == ([], PENDING, [])


async def test_handler_runs_in_the_context_of_the_worker_and_may_stop_it(bus: OutboxEventBus) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    @bus.on("t")
    async def handler(event: Event) -> None:
        seen.append(request.get())
        await bus.stop()

    with anyio.fail_after(5):
        await bus.start()
        request.set("of the emitter")
        await bus.emit("t")
        while bus.running:
            await anyio.sleep(0.001)
        await bus.stop()
    assert seen == ["none"]


async def test_claim_on_emit_must_be_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match="claim_on_emit='no': it must be True or False"):
        InMemoryOutbox(claim_on_emit="no")  # type: ignore[arg-type]  # what is refused
