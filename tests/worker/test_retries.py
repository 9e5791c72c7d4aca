"""Retries: backoff, rejections, dead letters, and events whose worker died."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    HandlerError,
    HandlerTimeoutError,
    NoHandlerError,
    OutboxEventBus,
    Reject,
    RetryLater,
)
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


# Retries


async def test_failing_event_has_six_attempts_and_ends_as_dead_letter(
    bus: OutboxEventBus, errors: list[Exception]
) -> None:
    works = False
    attempts: list[int] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if not works:
            raise ValueError("no")

    bus.on("order.placed", handler, name="mail")
    async with bus:
        event = await bus.emit("order.placed", {"n": 1})
        await bus.drain(10)
        assert attempts == [1, 2, 3, 4, 5, 6]
        (failed,) = await bus.get_failed_events()
        assert (failed.id, failed.retry_count, failed.payload) == (event.id, 5, {"n": 1})
        assert "mail" in failed.last_error
        assert "ValueError: no" in failed.last_error
        works = True
        assert len((await bus.retry_events([event.id, "unknown"])).done) == 1
        await bus.drain(5)
    assert attempts[-1] == 1
    assert await bus.get_failed_events() == []
    assert [type(error) for error in errors] == [HandlerError] * 6
    assert isinstance(errors[0].__cause__, ValueError)


async def test_rejected_event_is_failed_at_once(bus: OutboxEventBus) -> None:
    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        raise Reject("no such customer")

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    (failed,) = await bus.get_failed_events(type="order.placed")
    assert failed.retry_count == 0
    assert "no such customer" in failed.last_error


async def test_retry_later_decides_the_delay(bus: OutboxEventBus, errors: list[Exception]) -> None:
    handled = Recorder()

    @bus.on("order.placed")
    async def handler(event: Event, delivery: Delivery) -> None:
        await handled(event)
        if delivery.attempt == 1:
            raise RetryLater(0.3, "rate limit")

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert handled.times[1] - handled.times[0] == pytest.approx(0.3, abs=0.011)
    assert errors == []


async def test_event_without_a_handler_is_retried_until_one_comes(bus: OutboxEventBus, errors: list[Exception]) -> None:
    async with bus:
        await bus.emit("order.placed")
        while not errors:
            await anyio.sleep(0.005)
        bus.on("order.placed", handled := Recorder())
        await bus.drain(5)
    assert len(handled.events) == 1
    assert isinstance(errors[0], NoHandlerError)


async def test_handler_is_cancelled_before_its_lease_ends(errors: list[Exception]) -> None:
    outbox = quick_outbox(processing_timeout=0.3, max_retries=0)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    ended: list[str] = []

    @bus.on("order.placed")
    async def slow(event: Event) -> None:
        try:
            await anyio.sleep(10)
        finally:
            ended.append("cancelled")

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert ended == ["cancelled"]
    assert [type(error) for error in errors] == [HandlerTimeoutError]
    assert "give it a longer timeout: on('order.placed', timeout=...)" in (await bus.get_failed_events())[0].last_error


async def test_handler_that_awaits_a_cancelled_task_has_failed(bus: OutboxEventBus, errors: list[Exception]) -> None:
    ran = 0

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        nonlocal ran
        ran += 1
        if ran == 1:
            task = asyncio.ensure_future(asyncio.sleep(10))
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert ran == 2
    assert [type(error) for error in errors] == [HandlerError]


# Recovery


async def test_event_of_a_dead_worker_is_recovered(outbox: ScriptedOutbox) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    await outbox.claim(1)
    outbox.stored("e").sort_key = 0  # its lease ran out long ago
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", handled := Recorder())
    async with bus:
        await bus.drain(5)
    assert len(handled.events) == 1
    assert outbox.stored("e").retry_count == 1
