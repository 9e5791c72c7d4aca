"""Emits that are cancelled in any step of the event loop: an event that is stored as claimed is released.

In virtual time, on a table that carries out what was sent, though nobody waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.event_ids import event_ids
from reliability.simulation.client import Client
from tests.fakes import Recorder
from tests.simulated_table import Parameters, SimulatedService, calm
from tests.virtual_time import install

STEPS = 12
"""Within so many steps, each of these emits is sent."""

Emits = list[Coroutine[Any, Any, object]]


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> SimulatedService:
    service = SimulatedService(install(asyncio.get_running_loop(), monkeypatch))

    async def send(operation: str, parameters: Parameters) -> Any:
        return await asyncio.shield(service.send(operation, parameters))

    service.client = Client(send)
    return service


def alone(bus: OutboxEventBus, events: Sequence[Event]) -> Emits:
    return [bus.emit(events[0])]


def side_by_side(bus: OutboxEventBus, events: Sequence[Event]) -> Emits:
    return [bus.emit(event) for event in events]


def as_a_list(bus: OutboxEventBus, events: Sequence[Event]) -> Emits:
    return [bus.emit_many(events)]


def with_ids(bus: OutboxEventBus, events: Sequence[Event]) -> Emits:
    return [bus.emit_many([Event("order.placed", id=str(event.id)) for event in events])]


def in_a_transaction(bus: OutboxEventBus, events: Sequence[Event]) -> Emits:
    async def commit() -> None:
        async with bus.transaction() as tx:
            for event in events:
                tx.emit(event)

    return [commit()]


async def emit_before(service: SimulatedService, bus: OutboxEventBus) -> tuple[asyncio.Event, asyncio.Task[Any]]:
    """Emit an event for whose answer the next emits wait; return what is set by the answer."""
    answered = asyncio.Event()

    async def tell(operation: str, parameters: Parameters) -> None:
        if operation == "put_item":
            answered.set()

    service.after = tell
    emit = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0.001)
    return answered, emit


@pytest.mark.parametrize("is_numbered", [False, True])
@pytest.mark.parametrize("how", [alone, side_by_side, as_a_list, with_ids, in_a_transaction])
async def test_emit_that_is_cancelled_in_any_step_before_a_stop_leaves_no_claim(
    service: SimulatedService, how: Callable[[OutboxEventBus, Sequence[Event]], Emits], *, is_numbered: bool
) -> None:
    unsent = 0
    for steps in range(STEPS):
        event_ids.forget()
        bus = OutboxEventBus(service.outbox(poll_interval=1))
        bus.on("order.placed", Recorder())
        await bus.start()
        await asyncio.sleep(0.1)
        events = [Event("order.placed")]
        if is_numbered:
            # As the first window of a process does: events before it and after it share a request.
            event_ids.start_numbering()
        events += [Event("order.placed") for _ in range(3)]
        before = await emit_before(service, bus) if how is side_by_side else None
        emits = [asyncio.create_task(emit) for emit in how(bus, events)]
        if before is not None:
            await before[0].wait()
        service.after = answer_emits_late
        await cancelled_after(steps, emits)
        worker = bus._lifecycle.worker
        assert worker is not None
        await bus.stop(0)
        # The client may be closed now, so nothing may be under way.
        stored = statuses(service, events)
        assert set(stored) <= {"PENDING"}, steps
        service.after = calm
        await asyncio.sleep(5)
        assert statuses(service, events) == stored, steps
        assert worker._slots.taken == 0
        unsent += not stored
    assert 0 < unsent < STEPS


async def answer_emits_late(operation: str, parameters: Parameters) -> None:
    statements = parameters.get("Statements", [])
    is_insert = bool(statements) and statements[0]["Statement"].startswith("INSERT")
    if is_insert or operation in ("put_item", "batch_write_item", "transact_write_items"):
        await asyncio.sleep(1)


def statuses(service: SimulatedService, events: Sequence[Event]) -> list[str]:
    items = service.backend.tables["events"].items
    return [items[event.id]["status"]["S"] for event in events if event.id in items]


async def cancelled_after(steps: int, tasks: Sequence[asyncio.Task[object]]) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
