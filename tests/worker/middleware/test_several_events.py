"""Emit middleware of several events, of transactions, and of a context."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import Any

import pytest

from dynamodb_outbox import Delivery, Event, EventStatus, InMemoryOutbox, OutboxEventBus

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def plain(event: Event, call_next: Any) -> None:
    await call_next(event)


async def test_middleware_that_is_added_during_a_call_waits_for_the_next_one(
    bus: OutboxEventBus, handled: list[Event]
) -> None:
    late: list[Any] = []

    async def added(event: Event, call_next: Any) -> None:
        late.append(event.payload)
        await call_next(event)

    async def adds(event: Event, call_next: Any) -> None:
        if event.payload == 0:
            bus.add_emit_middleware(added)
        await call_next(event)

    bus.add_emit_middleware(adds)
    await bus.emit_many([Event("order.placed", n) for n in range(3)])
    assert late == []
    async with bus.transaction() as tx:
        for n in range(3, 6):
            tx.emit("order.placed", n)
    assert late == [3, 4, 5]

    async def adds_to_the_handlers(event: Event, call_next: Any) -> None:
        if event.payload == 0:
            bus.add_handler_middleware(added)
        await call_next(event)

    late.clear()
    bus.add_handler_middleware(adds_to_the_handlers)
    await bus.run_once()
    assert 0 not in late
    assert len(handled) == 6


async def test_emit_middleware_of_several_events_runs_side_by_side_ten_at_once(bus: OutboxEventBus) -> None:
    running = most = 0

    async def waits(event: Event, call_next: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05 if event.payload % 2 else 0.1)
        running -= 1
        if event.payload != 7:
            await call_next(event)

    bus.add_emit_middleware(waits)
    loop = asyncio.get_running_loop()
    began = loop.time()
    stored = await bus.emit_many([Event("order.placed", n) for n in range(20)])
    assert loop.time() - began == pytest.approx(0.15, abs=0.051)
    assert most == 10
    assert [event.payload for event in stored] == [n for n in range(20) if n != 7]
    began = loop.time()
    async with bus.transaction() as tx:
        for n in range(10):
            tx.emit("order.placed", n)
    assert loop.time() - began == pytest.approx(0.1, abs=0.01)


async def test_error_in_the_middleware_of_one_event_ends_that_of_the_others(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    ended: list[int] = []

    async def fails(event: Event, call_next: Any) -> None:
        try:
            await asyncio.sleep(event.payload / 10)
        except asyncio.CancelledError:
            ended.append(event.payload)
            raise
        if event.payload == 2:
            raise PermissionError("not you")
        await call_next(event)

    bus.add_emit_middleware(fails)
    before = asyncio.all_tasks()
    with pytest.raises(PermissionError, match="not you"):
        await bus.emit_many([Event("order.placed", n) for n in range(5)])
    assert ended == [3, 4]
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_middleware_that_swallows_its_cancellation_gets_no_further_event(
    bus: OutboxEventBus, outbox: InMemoryOutbox, *, cancelled: bool
) -> None:
    begun: list[int] = []

    async def swallows(event: Event, call_next: Any) -> None:
        begun.append(event.payload)
        if event.payload == 0 and not cancelled:
            await asyncio.sleep(0.01)
            raise PermissionError("not you")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
        await call_next(event)

    bus.add_emit_middleware(swallows)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError if cancelled else PermissionError):
        await asyncio.wait_for(bus.emit_many([Event("order.placed", n) for n in range(200)]), 0.02)
    assert begun == list(range(10))
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


async def test_cancelled_emit_ends_the_middleware_of_all_its_events(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    ended: list[int] = []

    async def waits(event: Event, call_next: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(event.payload)
        await call_next(event)

    bus.add_emit_middleware(waits)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.emit_many([Event("order.placed", n) for n in range(5)]), 1)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


async def test_middleware_that_awaits_something_cancelled_stores_nothing(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    async def odd(event: Event, call_next: Any) -> None:
        if event.payload == 3:
            raise asyncio.CancelledError
        await call_next(event)

    bus.add_emit_middleware(odd)
    with pytest.raises(asyncio.CancelledError):
        await bus.emit_many([Event("order.placed", n) for n in range(5)])
    assert await outbox.count(PENDING) == 0


async def test_middleware_that_waits_for_nothing_costs_no_task_per_event(bus: OutboxEventBus) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[Any] = []

    def counted(loop: asyncio.AbstractEventLoop, steps: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(steps, loop=loop, **options)
        tasks.append(task)
        return task

    bus.add_emit_middleware(plain, plain)
    loop.set_task_factory(counted)
    try:
        await bus.emit("order.placed")
        assert tasks == []
        assert len(await bus.emit_many([Event("order.placed") for _ in range(500)])) == 500
    finally:
        loop.set_task_factory(None)
    assert len(tasks) <= 1


TENANT: ContextVar[str] = ContextVar("TENANT")


async def test_emit_middleware_runs_in_a_copy_of_the_callers_context(bus: OutboxEventBus) -> None:
    seen: list[str] = []

    async def sets(event: Event, call_next: Any) -> None:
        seen.append(TENANT.get())
        TENANT.set("another")
        await asyncio.sleep(0.01)
        await call_next(event)

    async def within(event: Event, call_next: Any) -> None:
        assert TENANT.get() == "another"
        await call_next(event)

    bus.add_emit_middleware(sets, within)
    TENANT.set("caller")
    await bus.emit_many([Event("order.placed", n) for n in range(25)])
    await bus.emit("order.placed")
    assert seen == ["caller"] * 26
    assert TENANT.get() == "caller"


async def test_middleware_sees_whether_it_runs_in_a_transaction(bus: OutboxEventBus) -> None:
    seen: dict[str, bool] = {}

    async def records(event: Event, call_next: Any) -> None:
        seen[event.type] = call_next.in_transaction
        await call_next(event)

    bus.add_emit_middleware(records)
    bus.add_handler_middleware(records)

    @bus.on("alone")
    async def confirm(event: Event, delivery: Delivery) -> None:
        await delivery.emit("delivery.emit")
        async with delivery.transaction() as tx:
            tx.emit("delivery.transaction")

    await bus.emit("alone")
    assert seen.pop("alone") is False
    await bus.run_once()
    async with bus.transaction() as tx:
        tx.emit("tx.emit")
        await bus.emit("transaction=tx", transaction=tx)
        await bus.emit("outside")
    assert seen == {
        "alone": False,
        "delivery.emit": False,
        "delivery.transaction": True,
        "tx.emit": True,
        "transaction=tx": True,
        "outside": False,
    }
