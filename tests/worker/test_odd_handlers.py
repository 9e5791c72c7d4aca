"""Handlers, reporters and storages that end oddly: the attempt fails, and the worker goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, EventStatus, HandlerError, OutboxEventBus, Reject, SettleError, WorkerError
from tests.fakes import ScriptedOutbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


class DeadlyError(BaseException):
    """Not an `Exception`: what pytest and some libraries raise."""


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0.01)


async def awaits_something_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_a_base_exception() -> None:
    raise DeadlyError


async def swallows_a_cancellation_and_fails() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        await awaits_something_cancelled()


WAYS = [cancels_itself, awaits_something_cancelled, raises_a_base_exception, swallows_a_cancellation_and_fails]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("siblings", [0, 1])
async def test_handler_that_ends_oddly_has_failed_and_nothing_else_happens(
    way: Callable[[], Any], siblings: int
) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01, base_backoff=0.01)
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    ran: list[str] = []

    @bus.on("order.placed")
    async def odd(event: Event, delivery: Delivery) -> None:
        ran.append("odd")
        if delivery.attempt == 1:
            await way()

    for n in range(siblings):

        @bus.on("order.placed", name=f"sibling {n}")
        async def sibling(event: Event) -> None:
            await anyio.sleep(0.02)
            ran.append("sibling")

    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
        assert bus.running
    assert outbox.status_of(event.id) is COMPLETED
    assert sorted(ran) == ["odd", "odd"] + ["sibling"] * siblings
    assert [type(error) for error in errors] == [HandlerError]


@pytest.mark.parametrize("way", WAYS)
async def test_event_whose_handler_always_ends_oddly_runs_out_of_attempts(way: Callable[[], Any]) -> None:
    outbox = ScriptedOutbox(base_backoff=0, max_retries=2)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    attempts: list[int] = []

    @bus.on("order.placed")
    async def odd(event: Event, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        await way()

    event = await bus.emit("order.placed")
    assert [await bus.run_once() for _ in range(4)] == [1, 1, 1, 0]
    assert attempts == [1, 2, 3]
    assert outbox.status_of(event.id) is FAILED


@pytest.mark.parametrize("way", [cancels_itself, awaits_something_cancelled])
async def test_on_error_that_is_cancelled_ends_no_worker(way: Callable[[], Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01, base_backoff=0.01)

    async def report(error: Any) -> None:
        await way()

    bus = OutboxEventBus(outbox, on_error=report)

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError

    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
        assert bus.running
    assert outbox.status_of(event.id) is COMPLETED


async def test_storage_that_awaits_something_cancelled_ends_no_worker() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01, processing_timeout=0.2)
    for operation in ("claim", "recover", "settle"):
        outbox.script(operation, awaits_something_cancelled, nth=1)
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None: ...

    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
        assert bus.running
    assert outbox.status_of(event.id) is COMPLETED
    assert all(outbox.calls[operation] for operation in ("claim", "recover", "settle"))
    assert {type(error) for error in errors} == {WorkerError, SettleError}


async def test_rejection_inside_of_a_task_group_is_a_rejection() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)

    async def refuse() -> None:
        raise Reject("no")

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(refuse)

    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
    assert outbox.status_of(event.id) is FAILED
