"""Start, stop and `run_once`: handlers finish or are released, and nothing is left behind."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, HandlerError, OutboxEventBus, Reject, UsageError
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


# Lifecycle


async def test_start_twice_is_refused_and_stop_twice_is_not(bus: OutboxEventBus) -> None:
    await bus.start()
    assert bus.running
    with pytest.raises(UsageError, match="started already"):
        await bus.start()
    await bus.stop()
    assert not bus.running
    await bus.stop()
    await bus.start()
    assert bus.running
    await bus.stop()


async def test_start_and_stop_in_different_tasks(bus: OutboxEventBus) -> None:
    await asyncio.create_task(bus.start())
    bus.on("order.placed", handled := Recorder())
    await bus.emit("order.placed")
    await bus.drain(5)
    await asyncio.create_task(bus.stop())
    assert len(handled.events) == 1


async def test_nothing_is_left_after_stop(bus: OutboxEventBus) -> None:
    before = asyncio.all_tasks()
    bus.on("order.placed", Recorder())
    async with bus:
        await bus.emit_many([Event("order.placed") for _ in range(50)])
        await bus.drain(5)
    assert asyncio.all_tasks() == before


async def test_stop_lets_handlers_finish(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    began, release = anyio.Event(), anyio.Event()

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        began.set()
        await release.wait()

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    async with anyio.create_task_group() as group:
        group.start_soon(bus.stop)
        await anyio.sleep(0.05)
        assert not bus.running
        late = await bus.emit("order.placed")
        release.set()
    assert outbox.status_of(event.id) is COMPLETED
    assert outbox.status_of(late.id) is PENDING


async def test_stop_with_a_timeout_releases_what_still_runs(outbox: ScriptedOutbox) -> None:
    slow, other = OutboxEventBus(outbox), OutboxEventBus(outbox)
    began = anyio.Event()

    @slow.on("order.placed")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    other.on("order.placed", handled := Recorder())
    await slow.start()
    await slow.emit("order.placed", id="e")
    await began.wait()
    await slow.stop(timeout=0.05)
    assert (outbox.status_of("e"), outbox.stored("e").retry_count) == (PENDING, 0)
    async with other:
        await other.drain(5)
    assert len(handled.events) == 1


async def test_second_stop_may_shorten_the_first(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    began = anyio.Event()

    @bus.on("order.placed")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(bus.stop)
            await anyio.sleep(0.02)
            await bus.stop(timeout=0)
    assert outbox.status_of(event.id) is PENDING


async def test_cancelled_body_still_stops_the_bus(bus: OutboxEventBus) -> None:
    before = asyncio.all_tasks()
    with anyio.move_on_after(0.05):
        async with bus:
            await anyio.sleep_forever()
    assert not bus.running
    assert asyncio.all_tasks() == before


async def test_cancelling_the_worker_task_leaves_no_task(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    before = asyncio.all_tasks()
    began = anyio.Event()

    @bus.on("order.placed")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    (owner,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    owner.cancel()
    await bus.stop()
    assert asyncio.all_tasks() == before
    assert outbox.status_of(event.id) is PENDING


async def test_run_once_handles_one_batch(outbox: ScriptedOutbox, errors: list[Exception]) -> None:
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", handled := Recorder())
    await bus.emit_many([Event("order.placed") for _ in range(12)])
    assert [await bus.run_once() for _ in range(3)] == [10, 2, 0]
    assert len(handled.events) == 12
    async with bus:
        with pytest.raises(UsageError, match="without a running worker"):
            await bus.run_once()


async def test_slow_handler_delays_no_other_and_concurrency_is_kept(errors: list[Exception]) -> None:
    outbox = quick_outbox(concurrency=4, batch_size=4)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    release = anyio.Event()
    running = most = done = 0

    @bus.on("slow")
    async def slow(event: Event) -> None:
        await release.wait()

    @bus.on("quick")
    async def quick_handler(event: Event) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        done += 1

    async with bus:
        blocked = await bus.emit("slow")
        events = await bus.emit_many([Event("quick") for _ in range(40)])
        with anyio.fail_after(5):
            while done < 40 or outbox.status_of(events[-1].id) is not COMPLETED:
                await anyio.sleep(0.005)
        assert outbox.status_of(blocked.id) is PROCESSING
        release.set()
        await bus.drain(5)
    assert most <= 3
    assert errors == []


# Middleware


async def test_stop_waits_for_slow_reports(outbox: ScriptedOutbox) -> None:
    told: list[Exception] = []

    async def slow(error: Exception) -> None:
        await anyio.sleep(0.05)
        told.append(error)

    bus = OutboxEventBus(outbox, on_error=slow)
    failed = anyio.Event()

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        failed.set()
        raise Reject("no use")

    with anyio.fail_after(5):
        async with bus:
            await bus.emit("order.placed")
            await failed.wait()
    assert [type(error) for error in told] == [HandlerError]
