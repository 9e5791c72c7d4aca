"""Observers: which observations they get, in which order, and that they change nothing."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    InMemoryOutbox,
    InvalidEventError,
    LoggingObserver,
    OutboxEventBus,
    PartialPublishError,
    Reject,
    UnavailableError,
)
from dynamodb_outbox import observers as seen
from tests.fakes import Clock, Recorder, ScriptedOutbox


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(told: list[Any], clock: Clock) -> ScriptedOutbox:
    return ScriptedOutbox(observers=[told.append], clock=clock, on_error=lambda error: None, max_retries=1)


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


async def test_observations_of_an_event_that_succeeds(bus: OutboxEventBus, told: list[Any], clock: Clock) -> None:
    @bus.on("order.placed", name="h")
    async def confirm(event: Event) -> None:
        pass

    event = await bus.emit("order.placed")
    await bus.run_once()
    ids = {"event_id": event.id, "event_type": "order.placed"}
    told = [observation for observation in told if not isinstance(observation, seen.StorageCalled | seen.Polled)]
    assert told[3].seconds >= 0
    assert told == [
        seen.Published(**ids, due_at=None),
        seen.Claimed(**ids, attempt=1, lease_expires_at=clock.now + 30, due_at=clock.now),
        seen.HandlerStarted(**ids, handler="h", attempt=1),
        seen.HandlerSucceeded(**ids, handler="h", attempt=1, seconds=told[3].seconds),
        seen.EventCompleted(**ids, attempt=1, occurred_at=event.occurred_at),
    ]


async def test_observations_of_an_event_that_fails(bus: OutboxEventBus, told: list[Any], clock: Clock) -> None:
    error = ValueError("broken")

    @bus.on("order.placed", name="h")
    async def confirm(event: Event) -> None:
        raise error

    event = await bus.emit("order.placed", deliver_at=None)
    await bus.run_once()
    clock.now += 10
    await bus.run_once()
    ids = {"event_id": event.id, "event_type": "order.placed"}
    failed = [fact for fact in told if isinstance(fact, seen.HandlerFailed)]
    assert [(fact.attempt, fact.error) for fact in failed] == [(1, error), (2, error)]
    assert seen.RetryScheduled(**ids, attempt=1, delay=1.0, error="h: ValueError: broken") in told
    assert told[-1] == seen.EventFailed(**ids, attempt=2, error="h: ValueError: broken", reason="retries_exhausted")


async def test_rejection_release_recovery_and_loss(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any], clock: Clock
) -> None:
    started = anyio.Event()

    @bus.on("reject")
    async def reject(event: Event) -> None:
        raise Reject("no use")

    @bus.on("release")
    async def release(event: Event) -> None:
        started.set()
        await anyio.sleep(60)

    @bus.on("lose")
    async def lose(event: Event) -> None:
        outbox.stored(event.id).token = "another's"

    rejected, lost = await bus.emit("reject"), await bus.emit("lose")
    await bus.run_once()
    failed = {"event_id": rejected.id, "event_type": "reject", "attempt": 1, "reason": "rejected"}
    assert seen.EventFailed(**failed, error="reject: rejected: no use") in [_without_qualname(fact) for fact in told]
    assert seen.LeaseLost(event_id=lost.id, event_type="lose") in told
    clock.now += 31
    released = await bus.emit("release")
    async with bus:
        await started.wait()
        await bus.stop(timeout=0)
    ids = {"event_id": released.id, "event_type": "release"}
    assert seen.EventReleased(**ids, attempt=1) in told
    assert [type(fact) for fact in told if getattr(fact, "handler", "").endswith("release")] == [
        seen.HandlerStarted,
        seen.HandlerCancelled,
    ]
    assert seen.EventRecovered(event_id=lost.id, failed=False) in told


def _without_qualname(fact: Any) -> Any:
    if isinstance(fact, seen.EventFailed):
        return seen.EventFailed(
            event_id=fact.event_id,
            event_type=fact.event_type,
            attempt=fact.attempt,
            error=fact.error.rpartition("loss.")[2],
            reason=fact.reason,
        )
    return fact


async def test_failed_polls_and_settles_are_observed(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    down = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        pass

    outbox.refuse("settle", down)
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert seen.SettleFailed(event_id=event.id, event_type="order.placed", outcome="complete", error=down) in told
    outbox.fail("claim", down)
    with anyio.fail_after(5):
        async with bus:
            while not any(isinstance(fact, seen.PollingFailed) for fact in told):
                await anyio.sleep(0.01)
    assert seen.PollingFailed(loop="polling", errors=1, retry_in=2 * outbox.options.poll_interval, error=down) in told


async def test_each_poll_is_observed_with_the_slots_and_so_is_one_that_finds_everything_held(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any]
) -> None:
    started = anyio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        started.set()
        await anyio.sleep(5)

    def polls() -> list[seen.Polled]:
        return [fact for fact in told if isinstance(fact, seen.Polled)]

    slots = outbox.options.slots
    await bus.emit("order.placed")
    async with bus:
        await started.wait()
        await anyio.sleep(0.01)
        assert polls()[0] == seen.Polled(claims=1, slots=slots, slots_taken=1)
        await bus.hold(reason="a test")
        await anyio.sleep(6)
        await bus.emit("order.placed")  # the holds are read when there is something to claim
        await anyio.sleep(2)
        told.clear()
        calls = outbox.count_of("claim")
        await anyio.sleep(20)
        assert outbox.count_of("claim") == calls
        assert len(polls()) > 3
        assert set(polls()) == {seen.Polled(claims=0, slots=slots, slots_taken=0)}


async def test_storage_calls_are_observed_with_their_length_and_error(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any]
) -> None:
    down = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)
    bus.on("order.placed", Recorder())
    outbox.delay("publish", 2)
    outbox.refuse("settle", down)
    await bus.emit_many([Event("order.placed"), Event("order.placed")])
    await bus.run_once()
    outbox.fail("claim", down)
    with pytest.raises(UnavailableError):
        await bus.run_once()
    calls = [fact for fact in told if isinstance(fact, seen.StorageCalled) and fact.operation != "recover"]
    assert [(call.operation, call.events, call.error) for call in calls] == [
        ("publish", 2, None),
        ("claim", 2, None),
        ("settle", 2, down),
        ("claim", 0, down),
    ]
    assert calls[0].seconds == pytest.approx(2, abs=0.1)


async def test_failed_emits_are_observed(bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any]) -> None:
    down = UnavailableError(operation="put_item", attempts=1, reason="down", maybe_applied=False)
    await bus.emit("order.placed", id="a")
    await bus.emit("order.placed", id="a", if_exists="ignore")
    with pytest.raises(PartialPublishError):
        await bus.emit_many([Event("order.placed", id="a"), Event("order.placed", id="b")])
    with pytest.raises(InvalidEventError):
        await bus.emit("order.placed", object(), id="c")
    outbox.fail("publish", down, nth=1)
    with pytest.raises(UnavailableError):
        await bus.emit("order.placed", id="d")
    outbox.fail("transact", down)
    with pytest.raises(UnavailableError):
        async with bus.transaction() as tx:
            tx.emit("order.placed", id="e")
    failed = [fact for fact in told if isinstance(fact, seen.PublishFailed)]
    assert [(fact.event_id, type(fact.error)) for fact in failed] == [
        ("a", DuplicateEventError),
        ("d", UnavailableError),
        ("e", UnavailableError),
    ]
    assert [fact.event_id for fact in told if isinstance(fact, seen.Published)] == ["a", "b"]


async def test_claim_says_since_when_the_event_was_due(bus: OutboxEventBus, told: list[Any], clock: Clock) -> None:
    bus.on("order.placed", Recorder())
    await bus.emit("order.placed", delay=5)
    clock.now += 12
    await bus.run_once()
    (claimed,) = [fact for fact in told if isinstance(fact, seen.Claimed)]
    assert claimed.due_at == pytest.approx(clock.now - 7)


async def test_observer_that_raises_is_logged_and_changes_nothing(
    bus: OutboxEventBus, outbox: ScriptedOutbox, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(observation: Any) -> None:
        raise ZeroDivisionError

    bus.add_observer(broken)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        pass

    await bus.emit("order.placed")
    assert await bus.run_once() == 1
    # Of our logger only: asyncio's debug mode tells of every step that a slow machine takes.
    logged = [record for record in caplog.records if record.name == "dynamodb_outbox"]
    assert [record.getMessage().partition("(")[0] for record in logged] == [
        f"an observer raised an exception for {type(fact).__name__}" for fact in told
    ]
    caplog.clear()
    assert bus.remove_observer(broken)
    assert not bus.remove_observer(broken)
    await bus.emit("order.placed")
    assert [record for record in caplog.records if record.name == "dynamodb_outbox"] == []


async def test_no_observation_is_made_without_observers(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: Any, **__: Any) -> Any:
        raise AssertionError("made though nobody observes")

    from dynamodb_outbox import emitter, storage_calls
    from dynamodb_outbox.worker import dispatch, poll, settle_queue
    from dynamodb_outbox.worker.handling import handler_task

    for module, name in [
        (emitter, "Published"), (storage_calls, "StorageCalled"), (storage_calls, "_observed"),
        (poll, "Polled"), (dispatch, "Claimed"), (handler_task, "GuardedCall"), (emitter, "Guarded"),
        (handler_task, "HandlerStarted"), (handler_task, "HandlerSucceeded"),
        (settle_queue, "EventCompleted"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, unwanted)
    bus = OutboxEventBus(InMemoryOutbox())

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        pass

    await bus.emit("order.placed")
    assert await bus.run_once() == 1


class Ignoring:
    """An observer that ignores the start of handlers."""

    ignored = frozenset({seen.HandlerStarted, seen.LeaseRenewed})

    def __init__(self) -> None:
        self.kinds: list[type] = []

    def __call__(self, observation: seen.Observation, /) -> None:
        self.kinds.append(type(observation))


async def test_observation_is_made_unless_all_observers_ignore_it() -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    bus.on("order.placed", Recorder())
    ignoring, told = Ignoring(), list[seen.Observation]()
    watch_all = told.append
    bus.add_observer(ignoring)
    await bus.emit("order.placed")
    await bus.run_once()
    assert seen.HandlerSucceeded in ignoring.kinds
    assert seen.HandlerStarted not in ignoring.kinds
    bus.add_observer(watch_all)
    await bus.emit("order.placed")
    await bus.run_once()
    assert seen.HandlerStarted in map(type, told)
    bus.remove_observer(watch_all)
    assert bus.outbox.observers.ignored == Ignoring.ignored
    bus.remove_observer(ignoring)
    assert not bus.outbox.observers.ignored


async def test_what_cannot_be_called_is_refused(bus: OutboxEventBus) -> None:
    with pytest.raises(ConfigurationError, match="observer=5: it must be a function of one observation"):
        bus.add_observer(5)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ConfigurationError, match="observer='log'"):
        InMemoryOutbox(observers=["log"])  # type: ignore[list-item]  # what is refused


async def watch(observation: Any) -> None: ...


class Watcher:
    async def __call__(self, observation: Any) -> None: ...


@pytest.mark.parametrize("observer", [watch, partial(watch), Watcher(), Watcher().__call__])
async def test_async_observer_is_refused(bus: OutboxEventBus, observer: Any) -> None:
    with pytest.raises(ConfigurationError, match="it is called in the event loop, and cannot be async"):
        bus.add_observer(observer)


async def test_logging_is_an_observer(caplog: pytest.LogCaptureFixture) -> None:
    bus = OutboxEventBus(InMemoryOutbox(observers=[LoggingObserver(level=logging.INFO)], max_retries=0))

    @bus.on("order.placed", name="h")
    async def confirm(event: Event) -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.INFO, logger="dynamodb_outbox"):
        await bus.emit("order.placed", id="e", ordering_key="order-17")
        await bus.run_once()
    lines = [(record.levelname, record.getMessage().partition("(")[0]) for record in caplog.records]
    assert lines[0] == ("INFO", "Published")
    assert ("WARNING", "HandlerFailed") in lines
    assert ("ERROR", "EventFailed") in lines
    assert ("WARNING", "KeyBlocked") in lines
    assert "event_id='e'" in caplog.text
