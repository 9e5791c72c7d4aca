"""`wait_for` and `drain`."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus, WaitTimeoutError
from dynamodb_outbox.waiters import Waiters
from tests.fakes import Recorder

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
