"""Events without a handler in this process: they are released without an attempt, and FAILED after a timeout."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from dynamodb_outbox import ConfigurationError, Event, EventStatus, InMemoryOutbox, NoHandlerError, OutboxEventBus
from dynamodb_outbox.errors import WaitTimeoutError
from tests.fakes import ScriptedOutbox


def claimed_at(outbox: ScriptedOutbox) -> list[float]:
    """When the claims were made that found an event."""
    return [call.at for call in outbox.calls["claim"] if call.result]


@pytest.fixture
def errors() -> list[Exception]:
    return []


async def test_event_waits_for_a_worker_that_has_a_handler(errors: list[Exception]) -> None:
    outbox = ScriptedOutbox(claim_on_emit=False, max_retries=1)
    lacking, having = (OutboxEventBus(outbox, on_error=errors.append) for _ in range(2))
    handled: list[int] = []

    @having.on("invoice.due")
    async def remind(event: Event, delivery: Any) -> None:
        handled.append(delivery.attempt)

    event = await lacking.emit("invoice.due")
    async with lacking:
        await anyio.sleep(120)
    assert outbox.status_of(event.id) is EventStatus.PENDING
    assert {claim.attempt for claim in outbox.claims} == {1}
    async with having:
        await having.drain(120)
    assert handled == [1]
    assert outbox.status_of(event.id) is EventStatus.COMPLETED
    assert await having.get_failed_events() == []


async def test_waits_start_with_the_poll_interval_and_double_up_to_a_minute() -> None:
    outbox = ScriptedOutbox(claim_on_emit=False, poll_interval=2.0)
    bus = OutboxEventBus(outbox)
    async with bus:
        await bus.emit("invoice.due")
        await anyio.sleep(400)
    times = claimed_at(outbox)
    waited = [at - times[0] for at in times]
    for so_far, (earlier, later) in zip(waited, pairwise(times), strict=False):
        wait = later - earlier
        # The end of a wait is noticed by the next poll.
        delay = max(2.0, min(so_far, 60.0))
        assert delay - 0.01 <= wait <= delay + 1.5 * 2.0
    assert 9 <= len(waited) <= 13


async def test_missing_handler_is_reported_once_per_type(errors: list[Exception]) -> None:
    outbox = InMemoryOutbox(claim_on_emit=False)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    async with bus:
        await bus.emit_many([Event("one", id=f"e{n}") for n in range(20)] + [Event("two")])
        await anyio.sleep(10)
    async with bus:
        await anyio.sleep(100)
    assert {type(error) for error in errors} == {NoHandlerError}
    assert [error.event_type for error in errors if isinstance(error, NoHandlerError)] == ["one", "two"]
    assert "was released to other workers" in str(errors[0])


@pytest.mark.parametrize(("timeout", "fails"), [(90.0, True), (None, False)])
async def test_event_is_failed_once_it_was_unhandled_for_the_timeout(timeout: float | None, *, fails: bool) -> None:
    outbox = InMemoryOutbox(unhandled_timeout=timeout, max_retries=0, max_poll_interval=10.0)
    bus = OutboxEventBus(outbox, on_error=lambda _: None)
    async with bus:
        event = await bus.emit("invoice.due")
        await anyio.sleep(85)
        assert outbox.status_of(event.id) is EventStatus.PENDING
        await anyio.sleep(80 if fails else 5000)
        assert (outbox.status_of(event.id) is EventStatus.FAILED) is fails
        if fails:
            (failed,) = await bus.get_failed_events()
            assert failed.retry_count == 0
            assert "no handler for the event type 'invoice.due'" in failed.last_error
            assert len((await bus.retry_events([event.id])).done) == 1
            # The time begins again.
            await anyio.sleep(80)
            assert outbox.status_of(event.id) is EventStatus.PENDING


async def test_time_begins_again_after_an_attempt() -> None:
    outbox = InMemoryOutbox(unhandled_timeout=90.0, base_backoff=1.0)
    bus = OutboxEventBus(outbox, on_error=lambda _: None)

    async def failing(event: Event) -> None:
        bus.off("invoice.due", failing)
        raise ValueError("not today")

    async with bus:
        event = await bus.emit("invoice.due")
        await anyio.sleep(60)
        bus.on("invoice.due", failing)
        while bus.handlers("invoice.due"):
            await anyio.sleep(1)
        await anyio.sleep(80)
        assert outbox.status_of(event.id) is EventStatus.PENDING
        bus.on("invoice.due", handler := Collector())
        await anyio.sleep(65)
    assert handler.events == [event]


class Collector:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)


async def test_drain_that_is_over_names_the_types_without_a_handler() -> None:
    bus = OutboxEventBus(InMemoryOutbox(), on_error=lambda _: None)
    async with bus:
        await bus.emit("order.placed")
        with pytest.raises(WaitTimeoutError, match=r"no handler here for 'order\.placed'"):
            await bus.drain(5)


@pytest.mark.parametrize("value", [-1, float("nan"), "1", 4e8])
def test_timeout_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="unhandled_timeout"):
        InMemoryOutbox(unhandled_timeout=value)


async def test_run_once_releases_unhandled_events() -> None:
    outbox = InMemoryOutbox()
    bus = OutboxEventBus(outbox, on_error=lambda _: None)
    event = await bus.emit("invoice.due")
    assert [await bus.run_once() for _ in range(3)] == [1, 0, 0]
    bus.on("invoice.due", handler := Collector())
    await anyio.sleep(1.0)
    assert await bus.run_once() == 1
    assert handler.events == [event]
