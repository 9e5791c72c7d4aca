"""Claims on emit whose write is cancelled before it is acknowledged, with an adapter that sends it all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.adapter import EmitClaim
from dynamodb_outbox.worker.claim_on_emit import EmitClaims
from dynamodb_outbox.worker.worker import Worker

PENDING, PROCESSING, COMPLETED, *_ = EventStatus


class DetachedOutbox(InMemoryOutbox):
    """Stores events one by one in a task that a cancellation does not reach, each when the test allows another one.

    It calls `sending` only then, or not at all.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(poll_interval=60, **options)
        self.calls_sending = True
        self.allowed = asyncio.Semaphore(0)
        self.storing: asyncio.Task[None] | None = None

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        if emit_claim is not None and not self.calls_sending:
            emit_claim = replace(emit_claim, sending=lambda: None)

        async def store() -> None:
            for event in events:
                await self.allowed.acquire()
                await InMemoryOutbox.publish(self, [event], due_at=due_at, emit_claim=emit_claim)

        self.storing = asyncio.create_task(store())
        await asyncio.shield(self.storing)

    async def store(self) -> None:
        """Let the rest of a publish be stored."""
        assert self.storing is not None
        while not self.storing.done():
            self.allowed.release()
            await asyncio.sleep(0.01)


class Handler:
    """Records events, and waits until the test ends it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.end = anyio.Event()

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        await self.end.wait()


@pytest.fixture
def outbox() -> DetachedOutbox:
    return DetachedOutbox()


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
async def bus(outbox: DetachedOutbox, handler: Handler) -> AsyncIterator[OutboxEventBus]:
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handler)
    await bus.start()
    yield bus
    await bus.stop(0)


def worker_of(bus: OutboxEventBus) -> Worker:
    worker = bus._lifecycle.worker
    assert worker is not None
    return worker


def left_in(claims: EmitClaims) -> dict[str, object]:
    return {name: value for name, value in vars(claims).items() if isinstance(value, (set, dict)) and value}


async def give_up(*events: Event, bus: OutboxEventBus, stored_first: int = 0) -> None:
    """Cancel an emit once so many of its events are stored."""
    outbox = bus.outbox
    assert isinstance(outbox, DetachedOutbox)
    emit = asyncio.create_task(bus.emit_many(events))
    await asyncio.sleep(0.01)
    for _ in range(stored_first):
        outbox.allowed.release()
    await asyncio.sleep(0.01)
    emit.cancel()
    await asyncio.wait([emit])
    await asyncio.sleep(0.01)


async def test_claim_that_comes_after_its_write_and_after_the_stop_is_released(
    bus: OutboxEventBus, outbox: DetachedOutbox, handler: Handler
) -> None:
    claims = worker_of(bus)._emit_claims
    await give_up(Event("order.placed"), Event("order.placed"), bus=bus)
    await bus.stop(0)
    await outbox.store()
    # No lease is left that would have to run out, and no attempt is counted.
    assert (await outbox.count(PENDING), await outbox.count(PROCESSING)) == (2, 0)
    assert [claim.attempt for claim in await outbox.claim(10)] == [1, 1]
    assert handler.events == []
    assert left_in(claims) == {}


async def test_claim_that_comes_after_its_write_is_handled_while_the_worker_runs(
    bus: OutboxEventBus, outbox: DetachedOutbox, handler: Handler
) -> None:
    handler.end.set()
    await give_up(event := Event("order.placed"), bus=bus)
    await outbox.store()
    assert (handler.events, outbox.status_of(event.id)) == ([event], COMPLETED)
    assert left_in(worker_of(bus)._emit_claims) == {}


async def test_write_that_is_cancelled_before_its_first_step_leaves_nothing_behind(bus: OutboxEventBus) -> None:
    emit = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0)
    (write,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox emit"]
    write.cancel()
    await asyncio.wait([emit])
    worker = worker_of(bus)
    assert (worker._slots.taken, left_in(worker._emit_claims)) == (0, {})


@pytest.mark.parametrize("is_over", [False, True])
async def test_write_that_is_cancelled_between_two_claims_keeps_the_slot_of_the_first(
    bus: OutboxEventBus, outbox: DetachedOutbox, handler: Handler, *, is_over: bool
) -> None:
    outbox.calls_sending = False
    first, second = Event("order.placed"), Event("order.placed")
    await give_up(first, second, bus=bus, stored_first=1)
    assert (len(handler.events), worker_of(bus)._slots.taken) == (1, 1)
    stop = asyncio.create_task(bus.stop(0 if is_over else None))
    await asyncio.sleep(0.01)
    await outbox.store()
    handler.end.set()
    await stop
    assert outbox.status_of(first.id) is (PENDING if is_over else COMPLETED)
    assert outbox.status_of(second.id) is PENDING
