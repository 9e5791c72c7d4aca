"""The loops of a worker: a stop interrupts their waits, and lets a step that is under way end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import InMemoryOutbox, PollingError, UnavailableError, WorkerError
from dynamodb_outbox.worker.loop import PollingLoop, Wakeup
from tests.virtual_time import VirtualTime

DOWN = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)


def loop_of(
    step: Callable[[], Awaitable[float]], reported: list[Any] | None = None, **options: Any
) -> tuple[PollingLoop, Wakeup]:
    wakeup = Wakeup(lambda: 0.0)
    report = (lambda error: None) if reported is None else reported.append
    outbox = InMemoryOutbox(poll_interval=1.0)
    return PollingLoop("polling", step, outbox=outbox, wakeup=wakeup, report=report, **options), wakeup


async def sleeps() -> float:
    return 3600.0


async def is_busy() -> float:
    return 0.0


async def fails() -> float:
    raise DOWN


@pytest.mark.parametrize("step", [sleeps, is_busy, fails])
async def test_stop_ends_a_loop_between_two_steps(step: Any, virtual_time: VirtualTime) -> None:
    steps = 0

    async def counted() -> float:
        nonlocal steps
        steps += 1
        await anyio.sleep(0.5)
        return float(await step())

    loop, _ = loop_of(counted)
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        await anyio.sleep(0.75)
        started, before = virtual_time.time(), steps
        loop.stop()
        await loop.done.wait()
    assert virtual_time.time() - started == pytest.approx(0.25 if step is is_busy else 0.0)
    assert steps == before


async def test_stop_ends_a_loop_that_never_waits() -> None:
    async def stop() -> float:
        loop.stop()
        return 0.0

    loop, _ = loop_of(stop)
    with anyio.fail_after(5):
        await loop.run()
    assert loop.done.is_set()


async def test_stop_ends_a_loop_that_waits_until_it_is_ready() -> None:
    loop, _ = loop_of(is_busy, ready=anyio.sleep_forever)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(loop.run)
            await anyio.sleep(1)
            loop.stop()


@pytest.mark.parametrize("way", ["stop", "cancellation"])
async def test_step_under_way_ends_before_its_loop(way: str) -> None:
    ended: list[bool] = []

    async def step() -> float:
        await anyio.sleep(10)
        ended.append(True)
        return 0.0

    loop, _ = loop_of(step)
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        await anyio.sleep(1)
        if way == "stop":
            loop.stop()
        else:
            group.cancel_scope.cancel()
    assert ended == [True]


async def test_step_is_abandoned_at_the_deadline(virtual_time: VirtualTime) -> None:
    async def hangs() -> float:
        await anyio.sleep_forever()
        raise AssertionError

    reported: list[Any] = []
    loop, _ = loop_of(hangs, reported)
    started = virtual_time.time()
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        await anyio.sleep(1)
        loop.stop()
        loop.abandon_at(anyio.current_time() + 2)
    assert virtual_time.time() - started == pytest.approx(3)
    assert reported == []


async def test_wakeup_ends_a_sleep_and_no_backoff(virtual_time: VirtualTime) -> None:
    started = virtual_time.time()
    times: list[float] = []
    reported: list[Any] = []

    async def step() -> float:
        times.append(virtual_time.time() - started)
        if len(times) == 1:
            raise DOWN
        if len(times) == 2:
            raise ZeroDivisionError
        return 3600.0

    loop, wakeup = loop_of(step, reported)
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        for _ in range(11):
            await anyio.sleep(0.7)
            wakeup.wake()
        loop.stop()
    # A wakeup during the backoff ends the sleep after it.
    assert times[:6] == pytest.approx([0, 2, 6, 6, 6.3, 7], abs=0.01)
    assert [type(error) for error in reported] == [PollingError, WorkerError]


async def test_foreign_cancellation_of_a_step_is_reported_and_ends_nothing_else_during_a_stop() -> None:
    response: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    reported: list[Any] = []

    async def step() -> float:
        return await response

    loop, _ = loop_of(step, reported)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(loop.run)
            await anyio.sleep(1)
            loop.stop()
            response.cancel()  # as other code of the application may do with a request of its client
            await loop.done.wait()
            await anyio.sleep(1)  # the group, in which handlers would run, is not cancelled
    assert [type(error) for error in reported] == [WorkerError]
