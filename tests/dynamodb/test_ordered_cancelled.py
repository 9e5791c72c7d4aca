"""Emits with ordering keys whose tasks somebody cancels, such as a program that cancels every task of its loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from dynamodb_outbox import OutboxEventBus, UnavailableError
from dynamodb_outbox.dynamodb.ordering.queue import queue_id, read_queue
from tests.simulated_table import SimulatedService
from tests.virtual_time import install

KEY = "order-17"


async def test_append_that_is_cancelled_before_it_begins_holds_up_no_later_emit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    service = SimulatedService(install(loop, monkeypatch))
    bus = OutboxEventBus(service.outbox())
    cancelled: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **options)
        if coro.__qualname__ == "Lines._run" and not cancelled:
            cancelled.append(coro.__qualname__)
            task.cancel()
        return task

    loop.set_task_factory(cast("Any", factory))
    async with asyncio.timeout(100):
        with pytest.raises(UnavailableError) as raised:
            await bus.emit("order.paid", id="first", ordering_key=KEY)
        assert raised.value.maybe_applied
        await bus.emit("order.paid", id="second", ordering_key=KEY)
        await bus.emit("order.paid", id="first", ordering_key=KEY, if_exists="ignore")
    queue = read_queue(service.item(queue_id(KEY)))
    assert queue is not None
    assert queue.ids == ("second", "first")
