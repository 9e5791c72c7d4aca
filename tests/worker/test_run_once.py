"""`run_once`: what it claims is settled or released, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus
from tests.fakes import ScriptedOutbox, found_an_event
from tests.timing import set_timing

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def cancels(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def times_out(task: asyncio.Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, timeout=0.01)


@pytest.mark.parametrize("end", [cancels, times_out])
@pytest.mark.parametrize("during", ["claim", "handler"])
async def test_run_once_that_is_cancelled_releases_what_it_claimed(
    during: str, end: Callable[[asyncio.Task[Any]], Any]
) -> None:
    before = asyncio.all_tasks()
    outbox, began = ScriptedOutbox(), anyio.Event()
    gate = outbox.pause("claim", after=True, when=found_an_event)
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    event = await bus.emit("order.placed")
    cycle = asyncio.create_task(bus.run_once())
    with anyio.fail_after(5):
        await gate.reached.wait()
        if during == "handler":
            gate.open()
            await began.wait()
        else:
            asyncio.get_running_loop().call_later(0.05, gate.open)
        await end(cycle)
    assert (outbox.status_of(event.id), outbox.stored(event.id).retry_count) == (PENDING, 0)
    assert asyncio.all_tasks() == before


async def test_run_once_does_not_wait_for_a_reporter_that_never_ends() -> None:
    before = asyncio.all_tasks()

    async def hang(error: Any) -> None:
        await anyio.sleep_forever()

    bus = OutboxEventBus(ScriptedOutbox(), on_error=hang)
    set_timing(bus, report_seconds=0.05)
    await bus.emit("nobody handles this")
    with anyio.fail_after(5):
        assert await bus.run_once() == 1
    assert asyncio.all_tasks() == before


async def test_run_once_works_after_a_handler_stopped_the_worker() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    ran: list[str] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        ran.append(event.id)
        await bus.stop()

    await bus.start()
    await bus.emit("order.placed", id="first")
    (owner,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    with anyio.fail_after(5):
        await asyncio.wait([owner])
    await bus.emit("order.placed", id="second")
    assert await bus.run_once() == 1
    assert ran == ["first", "second"]
