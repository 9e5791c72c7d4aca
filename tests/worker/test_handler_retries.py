"""Options of a handler: its own retries and backoff, and the exceptions that are not retried."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    Event,
    EventStatus,
    FixedBackoff,
    OutboxEventBus,
    RetryLater,
    WorkerError,
)
from dynamodb_outbox.handlers import HandlerOptions
from tests.fakes import Clock, ScriptedOutbox


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(clock: Clock, errors: list[Any]) -> ScriptedOutbox:
    return ScriptedOutbox(clock=clock, base_backoff=1.0, max_retries=2, on_error=errors.append)


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


class Handler:
    """A handler that fails a number of times, and records the attempts it saw."""

    def __init__(self, failures: int = 1000, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or ValueError("broken")
        self.attempts: list[int] = []

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        self.attempts.append(delivery.attempt)
        if len(self.attempts) <= self.failures:
            raise self.error


async def run_attempts(bus: OutboxEventBus, clock: Clock, count: int) -> None:
    """Run a number of attempts at what is stored, each once it is due."""
    for _ in range(count):
        await bus.run_once()
        clock.now += 3600


def delay_left(outbox: ScriptedOutbox, clock: Clock, event: Event) -> float:
    sort_key = outbox.stored(event.id).sort_key
    assert sort_key is not None
    return sort_key / 1000 - clock.now


@pytest.mark.parametrize(("own", "attempts"), [(0, [1]), (1, [1, 2]), (4, [1, 2, 3, 4, 5]), (None, [1, 2, 3])])
async def test_handler_has_its_own_number_of_retries(
    bus: OutboxEventBus, clock: Clock, own: int | None, attempts: list[int]
) -> None:
    handler = Handler()
    bus.on("order.placed", handler, max_retries=own, name="own")
    await bus.emit("order.placed")
    await run_attempts(bus, clock, 7)
    assert handler.attempts == attempts
    (failed,) = await bus.get_failed_events()
    assert failed.retry_count == len(attempts) - 1
    assert failed.last_error == "own: ValueError: broken"


async def test_a_class_of_handlers_has_default_options(bus: OutboxEventBus, clock: Clock) -> None:
    class Patient(Handler):
        default_options: ClassVar[HandlerOptions] = {"max_retries": 4, "backoff": FixedBackoff(10)}

    patient, other = Patient(), Patient()
    bus.on("patient", patient)
    bus.on("other", other, max_retries=1)
    await bus.emit("patient")
    await bus.emit("other")
    for _ in range(6):
        await bus.run_once()
        clock.now += 10
    assert patient.attempts == [1, 2, 3, 4, 5]
    assert other.attempts == [1, 2]


async def test_delivery_knows_its_own_number_of_attempts(bus: OutboxEventBus) -> None:
    seen: list[int] = []

    @bus.on("order.placed", max_retries=9)
    async def handler(event: Event, delivery: Delivery) -> None:
        seen.append(delivery.max_attempts)

    await bus.emit("order.placed")
    await bus.run_once()
    assert seen == [10]


async def test_recovered_event_keeps_the_retries_of_its_handler(
    outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    handler = Handler(failures=0)
    bus.on("order.placed", handler, max_retries=6)
    event = await bus.emit("order.placed")
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
    bus.on("order.placed", impatient, max_retries=1, name="impatient")
    bus.on("order.placed", patient, max_retries=5, name="patient")
    await bus.emit("order.placed")
    await run_attempts(bus, clock, 6)
    assert (impatient.attempts, patient.attempts) == ([1, 2], [1, 2, 3, 4])
    (failed,) = await bus.get_failed_events()
    assert failed.handled_by == {"patient"}
    assert failed.last_error == "impatient: ValueError: broken", "its error is kept over the attempts that follow"
    impatient.failures = 0
    await bus.retry_events([failed.id])
    await run_attempts(bus, clock, 1)
    assert (impatient.attempts, patient.attempts) == ([1, 2, 1], [1, 2, 3, 4])


async def test_fixed_backoff(outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock) -> None:
    bus.on("order.placed", Handler(), backoff=FixedBackoff(7))
    event = await bus.emit("order.placed")
    for _ in range(2):
        await bus.run_once()
        assert delay_left(outbox, clock, event) == 7
        clock.now += 7


async def test_backoff_of_the_user_gets_attempt_and_exception_and_may_give_up(
    outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    asked: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float | None:
        asked.append((attempt, str(error)))
        return 5.5 if attempt == 1 else None

    bus.on("order.placed", Handler(), backoff=backoff)
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 5.5
    clock.now += 6
    await bus.run_once()
    assert asked == [(1, "broken"), (2, "broken")]
    assert outbox.status_of(event.id) is EventStatus.FAILED


@pytest.mark.parametrize("answer", [-5, float("nan"), "soon", ZeroDivisionError()])
async def test_backoff_that_fails_is_reported_and_the_usual_one_is_taken(
    outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock, errors: list[Any], answer: Any
) -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        if isinstance(answer, Exception):
            raise answer
        return float(answer) if answer == -5 else answer

    bus.on("order.placed", Handler(), backoff=backoff, name="odd")
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 1
    (reported,) = [error for error in errors if isinstance(error, WorkerError)]
    assert "the backoff of handler 'odd'" in str(reported)


async def test_delay_that_the_handler_asks_for_goes_before_its_backoff(
    outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock
) -> None:
    bus.on("order.placed", Handler(error=RetryLater(40)), backoff=FixedBackoff(7))
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert delay_left(outbox, clock, event) == 40


async def test_exceptions_of_no_retry_on_are_not_retried(
    outbox: ScriptedOutbox, bus: OutboxEventBus, clock: Clock
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
    bus.on("order.placed", final, no_retry_on=(KeyError,), max_retries=0, name="final")
    bus.on("order.placed", patient, max_retries=3, name="patient")
    await bus.emit("order.placed")
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
        (
            {"backoff": 5},
            r"backoff=5: it must be a function of the attempt and the exception, such as FixedBackoff\(5\)",
        ),
        ({"no_retry_on": ValueError}, "no_retry_on=<class 'ValueError'>: it must be a tuple of exception types"),
        ({"no_retry_on": (5,)}, r"no_retry_on=\(5,\)"),
        ({"retries": 3}, "'retries' is not an option of a handler; the options are: name, max_retries, backoff"),
    ],
)
async def test_bad_options_are_refused_at_registration(bus: OutboxEventBus, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        bus.on("order.placed", Handler(), **options)
