"""No handler of an ordering key starts after its lease: another worker may be handling a later event of the key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus
from dynamodb_outbox.observers import HandlerCancelled, HandlerStarted
from tests.fakes import Clock, ScriptedOutbox
from tests.virtual_time import VirtualTime

LEASE = 10.0


@pytest.fixture
def outbox(errors: list[Any]) -> ScriptedOutbox:
    return ScriptedOutbox(poll_interval=0.1, processing_timeout=LEASE, on_error=errors.append)


class Handler:
    """Records whether each event was started within its lease. `before_return` runs in the first call."""

    def __init__(self, outbox: ScriptedOutbox, before_return: Callable[[], object] = lambda: None) -> None:
        self._outbox = outbox
        self._before_return = before_return
        self.starts: list[tuple[str, bool]] = []

    async def __call__(self, event: Event) -> None:
        lease = next(claim for claim in reversed(self._outbox.claims) if claim.event.id == event.id).lease_expires_at
        self.starts.append((event.id, self._outbox.options.clock() < lease))
        if len(self.starts) == 1:
            self._before_return()


def claims_of(outbox: ScriptedOutbox, event_id: str) -> list[int]:
    """The attempts of the claims of an event."""
    return [claim.attempt for claim in outbox.claims if claim.event.id == event_id]


@pytest.mark.parametrize("key", ["order-17", None])
async def test_event_of_a_key_is_released_where_its_handler_would_start_after_the_lease(
    key: str | None, bus: OutboxEventBus, outbox: ScriptedOutbox, virtual_time: VirtualTime
) -> None:
    bus.on("order.paid", handler := Handler(outbox, lambda: virtual_time.pass_by(LEASE)))
    await bus.emit("order.paid", id="blocks the loop")
    await bus.emit("order.paid", id="late", ordering_key=key)
    async with bus:
        await anyio.sleep(2 * LEASE)
    # Without a key it may start late, and then again: delivery is at least once.
    first, *_ = (in_time for event_id, in_time in handler.starts if event_id == "late")
    assert first is (key is not None)
    assert outbox.status_of("late") is EventStatus.COMPLETED


@pytest.mark.parametrize("concurrency", [None, 1])
async def test_handler_that_was_too_late_is_told_neither_as_started_nor_as_cancelled(
    concurrency: int | None, bus: OutboxEventBus, outbox: ScriptedOutbox, virtual_time: VirtualTime
) -> None:
    told: list[Any] = []
    bus.add_observer(told.append)
    bus.on("order.paid", handler := Handler(outbox, lambda: virtual_time.pass_by(LEASE)), concurrency=concurrency)
    for event_id in ("blocks the loop", "late"):
        await bus.emit("order.paid", id=event_id, ordering_key=event_id)
    async with bus:
        await anyio.sleep(2 * LEASE)
    assert handler.starts[1:] == [("late", True)]
    assert len(claims_of(outbox, "late")) == 2
    about_late = [each for each in told if getattr(each, "event_id", "") == "late"]
    assert len([each for each in about_late if isinstance(each, HandlerStarted)]) == 1
    assert [each for each in about_late if isinstance(each, HandlerCancelled)] == []


@pytest.mark.parametrize("concurrency", [None, 1])
async def test_time_of_day_counts_too_because_a_suspended_machine_stops_the_time_of_the_loop(
    errors: list[Any], clock: Clock, concurrency: int | None
) -> None:
    outbox = ScriptedOutbox(poll_interval=0.1, processing_timeout=LEASE, on_error=errors.append, clock=clock)
    bus = OutboxEventBus(outbox)

    def suspend() -> None:
        clock.now += LEASE

    bus.on("order.paid", handler := Handler(outbox, suspend), concurrency=concurrency)
    for event_id in ("is suspended", "late"):
        await bus.emit("order.paid", id=event_id, ordering_key=event_id)
    async with bus:
        await anyio.sleep(1)
    assert handler.starts == [("is suspended", True), ("late", True)]
    assert claims_of(outbox, "late") == [1, 1]


async def test_middleware_that_takes_the_lease_leaves_no_time_for_the_handler(
    bus: OutboxEventBus, outbox: ScriptedOutbox, virtual_time: VirtualTime
) -> None:
    passed: list[str] = []

    async def slow(event: Event, call_next: Callable[[Event], Awaitable[None]]) -> None:
        passed.append(event.id)
        if len(passed) == 1:
            virtual_time.pass_by(LEASE)
        await call_next(event)

    bus.add_handler_middleware(slow)
    bus.on("order.paid", handler := Handler(outbox))
    await bus.emit("order.paid", id="late", ordering_key="order-17")
    async with bus:
        await anyio.sleep(2 * LEASE)
    assert handler.starts == [("late", True)]
    assert len(passed) == len(claims_of(outbox, "late")) == 2


async def test_event_is_not_complete_because_a_middleware_swallowed_that_it_was_too_late(
    bus: OutboxEventBus, outbox: ScriptedOutbox, virtual_time: VirtualTime
) -> None:
    passed: list[str] = []

    async def swallow(event: Event, call_next: Callable[[Event], Awaitable[None]]) -> None:
        passed.append(event.id)
        if len(passed) == 1:
            virtual_time.pass_by(LEASE)
        with suppress(BaseException):
            await call_next(event)

    bus.add_handler_middleware(swallow)
    bus.on("order.paid", handler := Handler(outbox))
    await bus.emit("order.paid", id="late", ordering_key="order-17")
    async with bus:
        await anyio.sleep(2 * LEASE)
    assert handler.starts == [("late", True)]


@pytest.fixture
def clock() -> Clock:
    return Clock()
