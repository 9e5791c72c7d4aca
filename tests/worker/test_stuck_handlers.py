"""Handlers that swallow their cancellation, or that block the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, HandlerStuckError, HandlerTimeoutError, LoopBlockedError, OutboxEventBus
from tests.fakes import ScriptedOutbox
from tests.timing import set_timing
from tests.virtual_time import VirtualTime

LEASE = 0.6


def outbox_of(errors: list[Any], **options: Any) -> ScriptedOutbox:
    """An outbox of short leases, that polls and retries soon."""
    defaults = {"poll_interval": 0.02, "base_backoff": 0.0, "processing_timeout": LEASE, "on_error": errors.append}
    return ScriptedOutbox(**(defaults | options))


@pytest.fixture
def outbox(errors: list[Any]) -> ScriptedOutbox:
    return outbox_of(errors)


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


# Handlers that do not end


@pytest.fixture
def short_patience(bus: OutboxEventBus) -> None:
    set_timing(bus, cancel_seconds=0.1)


class Stubborn:
    """A handler that swallows its cancellations until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.started = asyncio.Event()
        self.ended = False

    async def __call__(self, event: Event) -> None:
        self.started.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue
        self.ended = True


@pytest.mark.usefixtures("short_patience")
async def test_handler_that_swallows_its_cancellation_is_abandoned_and_delays_no_stop(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    handler = Stubborn()
    bus.on("video.uploaded", handler, name="stubborn")
    with anyio.fail_after(5):
        async with bus:
            event = await bus.emit("video.uploaded")
            await handler.started.wait()
            await bus.stop(timeout=0)
    assert not bus.running
    (error,) = errors
    assert isinstance(error, HandlerStuckError)
    assert str(error) == (
        f"handler 'stubborn' of 'video.uploaded' event '{event.id}' did not end within 0.1 s of its cancellation, "
        "and the worker went on without it; the handler must re-raise asyncio.CancelledError"
    )
    stored = outbox.stored(event.id)
    assert (stored.status, stored.retry_count) == (EventStatus.PENDING, 0)
    handler.let_go.set()
    await anyio.sleep(0.01)
    assert handler.ended


async def test_slot_of_an_abandoned_handler_is_free_again(errors: list[Any]) -> None:
    outbox = outbox_of(errors, concurrency=1, max_retries=0, processing_timeout=0.2)
    bus = OutboxEventBus(outbox)
    set_timing(bus, cancel_seconds=0.1)
    handler = Stubborn()
    bus.on("stuck", handler)
    done = anyio.Event()

    @bus.on("next")
    async def following(event: Event) -> None:
        done.set()

    with anyio.fail_after(5):
        async with bus:
            stuck = await bus.emit("stuck")
            await handler.started.wait()
            await bus.emit("next")
            await done.wait()
            assert outbox.status_of(stuck.id) is EventStatus.FAILED
            handler.let_go.set()
    assert [type(error) for error in errors] == [HandlerStuckError, HandlerTimeoutError]


@pytest.mark.usefixtures("short_patience")
async def test_permit_of_an_abandoned_handler_is_free_again(
    outbox: ScriptedOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    stubborn = Stubborn()

    @bus.on("video.uploaded", concurrency=1, max_retries=0, timeout=0.02)
    async def transcode(event: Event) -> None:
        if event.payload == "stuck":
            await stubborn(event)

    with anyio.fail_after(5):
        async with bus:
            try:
                stuck = await bus.emit("video.uploaded", "stuck")
                await stubborn.started.wait()
                following = await bus.emit("video.uploaded", "next")
                await bus.drain()
                assert not stubborn.ended
            finally:
                stubborn.let_go.set()
    statuses = [outbox.status_of(event.id) for event in (stuck, following)]
    assert statuses == [EventStatus.FAILED, EventStatus.COMPLETED]
    assert [type(error) for error in errors] == [HandlerStuckError, HandlerTimeoutError]


async def test_cancelled_handler_may_await_while_it_cleans_up(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    steps: list[str] = []
    started = anyio.Event()

    @bus.on("video.uploaded")
    async def transcode(event: Event) -> None:
        started.set()
        try:
            await anyio.sleep(60)
        finally:
            await anyio.sleep(0.02)
            steps.append("cleaned up")

    with anyio.fail_after(5):
        async with bus:
            await bus.emit("video.uploaded")
            await started.wait()
            await bus.stop(timeout=0)
    assert steps == ["cleaned up"]
    assert await outbox.count(EventStatus.PENDING) == 1


# Handlers that hold up the loop


async def test_handler_that_blocks_the_loop_is_named(
    bus: OutboxEventBus, errors: list[Any], virtual_time: VirtualTime
) -> None:
    @bus.on("video.uploaded", name="blocking")
    async def blocking(event: Event) -> None:
        await anyio.sleep(0)
        virtual_time.pass_by(LEASE / 2)
        await anyio.sleep(0)

    @bus.on("video.uploaded", name="innocent")
    async def innocent(event: Event) -> None:
        await anyio.sleep(0.01)

    event = await bus.emit("video.uploaded")
    await bus.run_once()
    (error,) = errors
    assert isinstance(error, LoopBlockedError)
    assert error.handler == "blocking"
    assert error.seconds == pytest.approx(LEASE / 2)
    assert f"on 'video.uploaded' event '{event.id}', so nothing else ran, not even the renewal of leases" in str(error)
    assert "anyio.to_thread.run_sync" in str(error)


async def test_exceptions_and_results_pass_through_the_timing_of_steps(bus: OutboxEventBus, errors: list[Any]) -> None:
    caught: list[str] = []

    async def inner() -> int:
        await asyncio.sleep(0)
        raise KeyError("inner")

    @bus.on("video.uploaded")
    async def transcode(event: Event) -> None:
        try:
            await inner()
        except KeyError:
            caught.append("key")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
        caught.extend(str(task.result()) for task in tasks)
        with anyio.move_on_after(0.01):
            await asyncio.sleep(10)
        caught.append("moved on")

    await bus.emit("video.uploaded")
    assert await bus.run_once() == 1
    assert caught == ["key", "0", "1", "2", "moved on"]
    assert errors == []
