"""Options of a handler: its own retries, backoff, time limit and concurrency."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    Event,
    EventStatus,
    FixedBackoff,
    HandlerTimeoutError,
    InMemoryOutbox,
    OutboxEventBus,
    RetryLater,
    WorkerError,
)
from dynamodb_outbox.observers import EventReleased, HandlerCancelled


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def outbox(clock: Clock, errors: list[Any]) -> InMemoryOutbox:
    return InMemoryOutbox(clock=clock, base_backoff=1.0, max_retries=2, on_error=errors.append)


@pytest.fixture
def bus(outbox: InMemoryOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


class Handler:
    """Fails so many times, and counts the attempts it saw."""

    def __init__(self, failures: int = 1000, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or ValueError("broken")
        self.attempts: list[int] = []

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        self.attempts.append(delivery.attempt)
        if len(self.attempts) <= self.failures:
            raise self.error


async def run_attempts(bus: OutboxEventBus, clock: Clock, count: int) -> None:
    """Run so many attempts at what is stored, each once it is due."""
    for _ in range(count):
        await bus.run_once()
        clock.now += 3600


def delay_left(outbox: InMemoryOutbox, clock: Clock, event: Event) -> float:
    sort_key = outbox._events[event.id].sort_key
    assert sort_key is not None
    return sort_key / 1000 - clock.now


@pytest.mark.parametrize(("own", "attempts"), [(0, [1]), (1, [1, 2]), (4, [1, 2, 3, 4, 5]), (None, [1, 2, 3])])
async def test_handler_has_its_own_number_of_retries(
    bus: OutboxEventBus, clock: Clock, own: int | None, attempts: list[int]
) -> None:
    handler = Handler()
    bus.on("t", handler, max_retries=own, name="own")
    await bus.emit("t")
    await run_attempts(bus, clock, 7)
    assert handler.attempts == attempts
    (failed,) = await bus.get_failed_events()
    assert failed.retry_count == len(attempts) - 1
    assert failed.last_error == "own: ValueError: broken"


async def test_delivery_knows_its_own_number_of_attempts(bus: OutboxEventBus) -> None:
    seen: list[int] = []

    @bus.on("t", max_retries=9)
    async def handler(event: Event, delivery: Delivery) -> None:
        seen.append(delivery.max_attempts)

    await bus.emit("t")
    await bus.run_once()
    assert seen == [10]


async def test_recovered_event_keeps_the_retries_of_its_handler(
    outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    handler = Handler(failures=0)
    bus.on("t", handler, max_retries=6)
    event = await bus.emit("t")
    for _ in range(5):
        await outbox.claim(1)
        clock.now += 31
        await outbox.recover(max_retries=6)
    await outbox.claim(1)
    clock.now += 31
    assert await bus.run_once() == 1
    assert handler.attempts == [7]
    assert outbox.status_of(event.id) is EventStatus.COMPLETED


async def test_event_is_tried_while_one_of_its_handlers_has_retries_left(bus: OutboxEventBus, clock: Clock) -> None:
    impatient, patient = Handler(), Handler(failures=3)
    bus.on("t", impatient, max_retries=1, name="impatient")
    bus.on("t", patient, max_retries=5, name="patient")
    await bus.emit("t")
    await run_attempts(bus, clock, 6)
    assert (impatient.attempts, patient.attempts) == ([1, 2], [1, 2, 3, 4])
    (failed,) = await bus.get_failed_events()
    assert failed.handled_by == {"patient"}
    assert failed.last_error == "impatient: ValueError: broken", "its error is kept over the attempts that follow"
    impatient.failures = 0
    await bus.retry_events([failed.id])
    await run_attempts(bus, clock, 1)
    assert (impatient.attempts, patient.attempts) == ([1, 2, 1], [1, 2, 3, 4])


async def test_fixed_backoff(outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock) -> None:
    bus.on("t", Handler(), backoff=FixedBackoff(7))
    event = await bus.emit("t")
    for _ in range(2):
        await bus.run_once()
        assert delay_left(outbox, clock, event) == 7
        clock.now += 7


async def test_backoff_of_the_user_gets_attempt_and_exception_and_may_give_up(
    outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    asked: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float | None:
        asked.append((attempt, str(error)))
        return 5.5 if attempt == 1 else None

    bus.on("t", Handler(), backoff=backoff)
    event = await bus.emit("t")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 5.5
    clock.now += 6
    await bus.run_once()
    assert asked == [(1, "broken"), (2, "broken")]
    assert outbox.status_of(event.id) is EventStatus.FAILED


@pytest.mark.parametrize("answer", [-5, float("nan"), "soon", ZeroDivisionError()])
async def test_backoff_that_fails_is_reported_and_the_usual_one_is_taken(
    outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock, errors: list[Any], answer: Any
) -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        if isinstance(answer, Exception):
            raise answer
        return float(answer) if answer == -5 else answer

    bus.on("t", Handler(), backoff=backoff, name="odd")
    event = await bus.emit("t")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 1
    (reported,) = [error for error in errors if isinstance(error, WorkerError)]
    assert "the backoff of handler 'odd'" in str(reported)


async def test_delay_that_the_handler_asks_for_goes_before_its_backoff(
    outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    bus.on("t", Handler(error=RetryLater(40)), backoff=FixedBackoff(7))
    event = await bus.emit("t")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 40


async def test_exceptions_of_no_retry_on_are_not_retried(
    outbox: InMemoryOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    final, other = Handler(error=KeyError("k")), Handler(error=ValueError("v"))
    bus.on("final", final, no_retry_on=(KeyError, TypeError))
    bus.on("other", other, no_retry_on=(KeyError, TypeError))
    first, second = await bus.emit("final"), await bus.emit("other")
    await bus.run_once()
    assert outbox.status_of(first.id) is EventStatus.FAILED
    assert outbox.status_of(second.id) is EventStatus.PENDING


async def test_no_retry_on_goes_before_the_retries_of_a_sibling(bus: OutboxEventBus, clock: Clock) -> None:
    final, patient = Handler(error=KeyError("k")), Handler()
    bus.on("t", final, no_retry_on=(KeyError,), max_retries=0, name="final")
    bus.on("t", patient, max_retries=3, name="patient")
    await bus.emit("t")
    await run_attempts(bus, clock, 3)
    assert (final.attempts, patient.attempts) == ([1], [1])
    (failed,) = await bus.get_failed_events()
    assert failed.last_error == "final: KeyError: 'k'; patient: ValueError: broken"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_retries": -1}, "max_retries=-1: it must be a whole number from 0 to 100"),
        ({"timeout": 0}, "timeout=0: it must be a number of seconds from 0.001"),
        ({"concurrency": 0}, "concurrency=0: it must be a whole number from 1 to 10,000"),
        ({"backoff": 5}, r"backoff=5: it must be a function of attempt and exception, such as FixedBackoff\(5\)"),
        ({"no_retry_on": ValueError}, "no_retry_on=<class 'ValueError'>: it must be a tuple of exception types"),
        ({"no_retry_on": (5,)}, r"no_retry_on=\(5,\)"),
        ({"retries": 3}, "'retries' is no option of a handler; these are: name, max_retries, backoff, timeout"),
    ],
)
async def test_bad_options_are_refused_at_registration(bus: OutboxEventBus, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bus.on("t", Handler(), **options)


async def test_timeout_of_a_handler_cancels_it_and_counts_as_a_failure(bus: OutboxEventBus, errors: list[Any]) -> None:
    @bus.on("t", timeout=0.05, name="slow")
    async def slow(event: Event) -> None:
        await anyio.sleep(60)

    await bus.emit("t")
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
    """Deliver an event, and another while the handlers of the first have all places."""
    with anyio.fail_after(30):
        async with bus:
            await bus.emit("t", "first")
            await anyio.sleep(0.05)
            await bus.emit("t", "second")
            await bus.drain(20)


async def test_event_without_a_permit_for_half_a_lease_is_released_and_no_attempt_is_counted(
    errors: list[Any],
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    order: list[str] = []
    told = Counter[type]()
    bus.add_observer(lambda observation: told.update([type(observation)]))

    @bus.on("t", concurrency=1, timeout=5)
    async def handler(event: Event, delivery: Delivery) -> None:
        order.append(f"{event.payload}: {delivery.attempt}")
        await anyio.sleep(0.7 if event.payload == "first" else 0)

    await first_then_second(bus)
    assert (order, errors) == (["first: 1", "second: 1"], [])
    assert told[EventReleased] > 0
    assert told[HandlerCancelled] == 0, "it had not begun"


@pytest.mark.parametrize("retries", [5, 0])
async def test_handler_without_a_permit_has_its_turn_before_the_event_is_failed(
    errors: list[Any], retries: int
) -> None:
    outbox = InMemoryOutbox(poll_interval=0.02, processing_timeout=0.5, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    turns: list[str] = []

    @bus.on("t", max_retries=5 - retries, backoff=FixedBackoff(0.1))
    async def fails(event: Event) -> None:
        if event.payload == "second":
            raise ValueError("no")

    @bus.on("t", name="crowded", concurrency=1, timeout=5, max_retries=retries)
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

    @bus.on("t")
    async def fails(event: Event) -> None:
        calls[event.payload] += 1
        if event.payload == "second":
            raise ValueError("no")

    @bus.on("t", concurrency=1, timeout=10)
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

    @bus.on("t")
    async def fails(event: Event) -> None:
        if event.payload == "second":
            calls.append("fails")
            raise ValueError("no")

    @bus.on("t", concurrency=1, timeout=5)
    async def once(event: Event) -> None:
        if event.payload == "second":
            calls.append("once")
        await anyio.sleep(0.4)

    @bus.on("t", concurrency=1, timeout=5, max_retries=5)
    async def often(event: Event) -> None:
        if event.payload == "second":
            calls.append("often")
        await anyio.sleep(0.4)

    await first_then_second(bus)
    assert calls == ["fails", "often"]


async def test_permits_are_freed_by_handlers_that_are_cancelled(bus: OutboxEventBus, clock: Clock) -> None:
    ended = 0

    @bus.on("t", concurrency=1, timeout=0.02)
    async def handler(event: Event) -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            ended += 1

    await bus.emit_many([Event("t") for _ in range(3)])
    with anyio.fail_after(5):
        assert await bus.run_once() == 3
    assert ended == 3
