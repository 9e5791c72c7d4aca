"""`wait_for` and `drain`."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus, WaitTimeoutError, WorkerError
from dynamodb_outbox.waiters import Waiters
from tests.fakes import Recorder, ScriptedOutbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def test_wait_for_returns_the_next_completed_event(bus: OutboxEventBus) -> None:
    bus.on("order.placed", Recorder())
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.emit, "order.placed", {"n": 1})
        assert (await bus.wait_for("order.placed")).payload == {"n": 1}


async def test_waiting_for_many_types_leaves_nothing_behind() -> None:
    waiters: Any = Waiters()
    for n in range(50):
        with anyio.move_on_after(0.01):
            await waiters.next_of(f"order-{n}")
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(waiters.next_of, "order.placed")
        await anyio.sleep(0.01)
        waiters.completed(Event("user.deleted"))
        waiters.completed(Event("order.placed"))
    assert waiters._waiting == {}


async def test_wait_for_times_out(bus: OutboxEventBus) -> None:
    with pytest.raises(WaitTimeoutError, match=r"this bus completed no 'order\.placed' event"):
        await bus.wait_for("order.placed", timeout=0.01)
    with pytest.raises(TimeoutError):
        await bus.wait_for("order.placed", timeout=0)


async def test_drain_waits_for_delayed_events_and_names_what_is_left(bus: OutboxEventBus) -> None:
    bus.on("order.placed", handled := Recorder())
    async with bus:
        await bus.emit("order.placed", delay=0.15)
        await bus.drain(5)
        assert len(handled.events) == 1
        await bus.emit_many([Event("order.placed") for _ in range(3)], delay=60)
        with pytest.raises(WaitTimeoutError, match="3 PENDING") as caught:
            await bus.drain(0.1)
    assert caught.value.left == {"PENDING": 3, "PROCESSING": 0}


async def end_worker() -> None:
    """Cancel the worker's own task, as an application may do by mistake."""
    (owner,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    owner.cancel()
    await asyncio.wait([owner])


@pytest.mark.parametrize("timeout", [None, 3600])
@pytest.mark.parametrize("when", ["before", "meanwhile", "with an emit under way"])
async def test_drain_raises_the_error_of_a_worker_that_has_ended(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any], when: str, timeout: float | None
) -> None:
    bus.on("order.placed", Recorder())
    await bus.start()
    await bus.emit("order.placed", delay=7200)
    emit = None
    if when == "with an emit under way":
        outbox.pause("publish")
        emit = asyncio.create_task(bus.emit("order.placed"))
        await anyio.sleep(0.1)
    if when == "meanwhile":
        drain = asyncio.create_task(bus.drain(timeout))
        await anyio.sleep(1)
        await end_worker()
    else:
        await end_worker()
        drain = asyncio.create_task(bus.drain(timeout))
    await asyncio.wait([drain], timeout=60)
    assert drain.done()
    error = drain.exception()
    assert isinstance(error, WorkerError)
    assert error.ended
    assert "the worker has ended; await bus.start() starts another: CancelledError" in str(error)
    assert errors == [error]
    if emit is not None:
        emit.cancel()


async def test_drain_ends_without_an_error_if_a_worker_that_has_ended_left_nothing(bus: OutboxEventBus) -> None:
    bus.on("order.placed", Recorder())
    await bus.start()
    await bus.emit("order.placed")
    await bus.drain()
    await end_worker()
    await bus.drain()


async def test_drain_goes_on_with_the_worker_that_was_started_after_one_that_has_ended(bus: OutboxEventBus) -> None:
    bus.on("order.placed", handled := Recorder())
    await bus.start()
    await bus.emit("order.placed", delay=1)
    await end_worker()
    async with bus:
        await bus.drain()
    assert len(handled.events) == 1


async def test_wait_for_says_that_the_worker_has_ended(bus: OutboxEventBus) -> None:
    await bus.start()
    await end_worker()
    with pytest.raises(WaitTimeoutError, match=r"within 1 s; unexpected error .*; the worker has ended"):
        await bus.wait_for("order.placed", timeout=1)
