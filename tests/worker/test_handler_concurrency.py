"""Options of a handler: its timeout, and its permits when its concurrency is limited."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, FixedBackoff, HandlerTimeoutError, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.observers import EventReleased, HandlerCancelled


async def test_timeout_of_a_handler_cancels_it_and_counts_as_a_failure(bus: OutboxEventBus, errors: list[Any]) -> None:
    @bus.on("order.placed", timeout=0.05, name="slow")
    async def slow(event: Event) -> None:
        await anyio.sleep(60)

    await bus.emit("order.placed")
    with anyio.fail_after(5):
        assert await bus.run_once() == 1
    (error,) = errors
    assert isinstance(error, HandlerTimeoutError)
    assert error.timeout == 0.05
    assert "handler 'slow' was cancelled after 0.05" in str(error)
    assert "its timeout of 0.05 s" in str(error)


async def test_no_more_calls_at_once_than_the_handler_allows(errors: list[Any]) -> None:
    bus = OutboxEventBus(InMemoryOutbox(poll_interval=0.01, batch_size=20, on_error=errors.append))
    running, most, free = Counter[str](), Counter[str](), 0

    async def limited(event: Event) -> None:
        running["limited"] += 1
        most["limited"] = max(most["limited"], running["limited"])
        await anyio.sleep(0.01)
        running["limited"] -= 1

    async def unlimited(event: Event) -> None:
        nonlocal free
        free += 1

    bus.on("limited", limited, concurrency=3)
    bus.on("other", unlimited)
    async with bus:
        await bus.emit_many([Event(kind) for kind in ("limited", "other") for _ in range(20)])
        await bus.drain(10)
    assert (most["limited"], free, errors) == (3, 20, [])


@pytest.mark.parametrize(("subscribed", "at_once"), [(True, 1), (False, 2)])
async def test_types_of_one_subscription_share_its_permits(bus: OutboxEventBus, subscribed: bool, at_once: int) -> None:
    running = most = 0

    async def handler(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):
            await anyio.sleep(0)
        running -= 1

    if subscribed:
        bus.subscribe(["a", "b"], handler, concurrency=1)
    else:
        bus.on("a", handler, concurrency=1)
        bus.on("b", handler, concurrency=1)
    await bus.emit_many([Event("a"), Event("b")])
    assert await bus.run_once() == 2
    assert most == at_once


async def first_then_second(bus: OutboxEventBus) -> None:
    """Deliver an event, and another while the handlers of the first hold all permits."""
    with anyio.fail_after(30):
        async with bus:
            await bus.emit("order.placed", "first")
            await anyio.sleep(0.05)
            await bus.emit("order.placed", "second")
            await bus.drain(20)


async def test_event_without_a_permit_for_half_a_lease_is_released_and_no_attempt_is_counted(
    errors: list[Any],
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    order: list[str] = []
    told = Counter[type]()
    bus.add_observer(lambda observation: told.update([type(observation)]))

    @bus.on("order.placed", concurrency=1, timeout=5)
    async def handler(event: Event, delivery: Delivery) -> None:
        order.append(f"{event.payload}: {delivery.attempt}")
        await anyio.sleep(0.7 if event.payload == "first" else 0)

    await first_then_second(bus)
    assert (order, errors) == (["first: 1", "second: 1"], [])
    assert told[EventReleased] > 0
    assert told[HandlerCancelled] == 0, "it had not started"


@pytest.mark.parametrize("retries", [5, 0])
async def test_handler_without_a_permit_has_its_turn_before_the_event_is_failed(
    errors: list[Any], retries: int
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    turns: list[str] = []

    @bus.on("order.placed", max_retries=5 - retries, backoff=FixedBackoff(0.1))
    async def fails(event: Event) -> None:
        if event.payload == "second":
            raise ValueError("no")

    @bus.on("order.placed", name="crowded", concurrency=1, timeout=5, max_retries=retries)
    async def crowded(event: Event) -> None:
        turns.append(event.payload)
        await anyio.sleep(0.7 if event.payload == "first" else 0)

    await first_then_second(bus)
    assert turns == ["first", "second"]
    (failed,) = await bus.get_failed_events()
    assert failed.handled_by == {"crowded"}


async def test_handler_without_a_retry_left_is_not_called_again_because_another_found_no_permit(
    errors: list[Any],
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, max_retries=0, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    calls = Counter[str]()

    @bus.on("order.placed")
    async def fails(event: Event) -> None:
        calls[event.payload] += 1
        if event.payload == "second":
            raise ValueError("no")

    @bus.on("order.placed", concurrency=1, timeout=10)
    async def crowded(event: Event) -> None:
        await anyio.sleep(3)

    await first_then_second(bus)
    assert calls == {"first": 1, "second": 1}
    assert [failed.payload for failed in await bus.get_failed_events()] == ["second"]


async def test_handler_with_retries_has_its_turn_though_another_without_a_permit_has_none(
    errors: list[Any],
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, max_retries=0, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    calls: list[str] = []

    @bus.on("order.placed")
    async def fails(event: Event) -> None:
        if event.payload == "second":
            calls.append("fails")
            raise ValueError("no")

    @bus.on("order.placed", concurrency=1, timeout=5)
    async def once(event: Event) -> None:
        if event.payload == "second":
            calls.append("once")
        await anyio.sleep(0.4)

    @bus.on("order.placed", concurrency=1, timeout=5, max_retries=5)
    async def often(event: Event) -> None:
        if event.payload == "second":
            calls.append("often")
        await anyio.sleep(0.4)

    await first_then_second(bus)
    assert calls == ["fails", "often"]


async def test_permits_are_freed_by_handlers_that_are_cancelled(bus: OutboxEventBus) -> None:
    ended = 0

    @bus.on("order.placed", concurrency=1, timeout=0.02)
    async def handler(event: Event) -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            ended += 1

    await bus.emit_many([Event("order.placed") for _ in range(3)])
    with anyio.fail_after(5):
        assert await bus.run_once() == 3
    assert ended == 3
