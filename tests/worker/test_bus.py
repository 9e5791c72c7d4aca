"""The bus on the in-memory outbox: handlers, lifecycle, retries, waiting, middleware."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Claim,
    ConfigurationError,
    Delivery,
    DuplicateEventError,
    DuplicateHandlerError,
    Event,
    EventStatus,
    HandlerError,
    HandlerTimeoutError,
    InMemoryOutbox,
    InvalidEventError,
    LeaseLostError,
    NoHandlerError,
    OutboxEventBus,
    PartialPublishError,
    PollingError,
    Reject,
    RetryLater,
    SettleError,
    UnavailableError,
    UsageError,
    WaitTimeoutError,
    WorkerError,
)
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.waiters import Waiters

PENDING, PROCESSING, COMPLETED, FAILED = EventStatus


def quick(**options: Any) -> InMemoryOutbox:
    """An outbox that polls and retries in hundredths of a second."""
    return InMemoryOutbox(**({"poll_interval": 0.01, "base_backoff": 0.01} | options))


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def outbox() -> InMemoryOutbox:
    return quick()


@pytest.fixture
def bus(outbox: InMemoryOutbox, errors: list[Exception]) -> OutboxEventBus:
    return OutboxEventBus(outbox, on_error=errors.append)


# Handlers


async def test_handler_gets_the_event(bus: OutboxEventBus) -> None:
    got: list[Event] = []

    @bus.on("user.created")
    async def greet(event: Event) -> None:
        got.append(event)

    async with bus:
        sent = await bus.emit("user.created", {"email": "ada@example.org"}, metadata={"trace": "1"})
        await bus.drain(5)
    assert got == [sent]


async def test_handler_may_ask_for_its_delivery(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    got: list[Delivery] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        got.append(delivery)
        if delivery.attempt == 1:
            raise ValueError("once more")

    bus.on("t", handler, name="mail")
    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert [(d.attempt, d.max_attempts, d.handler) for d in got] == [(1, 6, "mail"), (2, 6, "mail")]
    assert got[0].lease_expires_at == pytest.approx(outbox.options.clock() + 30, abs=5)


async def test_every_handler_of_the_type_runs_and_no_other(bus: OutboxEventBus) -> None:
    ran: list[str] = []

    def handler(name: str) -> Callable[[Event], Awaitable[None]]:
        async def handle(event: Event) -> None:
            ran.append(name)

        return handle

    for name in ("a", "b"):
        bus.on("t", handler(name), name=name)
    bus.on("other", handler("other"))
    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert sorted(ran) == ["a", "b"]


async def test_only_the_failed_handler_runs_again(bus: OutboxEventBus) -> None:
    ran: Counter[str] = Counter()

    @bus.on("t")
    async def steady(event: Event) -> None:
        ran["steady"] += 1

    @bus.on("t")
    async def flaky(event: Event) -> None:
        ran["flaky"] += 1
        if ran["flaky"] <= 3:
            raise ValueError("not yet")

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert ran == {"steady": 1, "flaky": 4}


async def test_handlers_share_the_payload_of_an_attempt_and_the_next_attempt_has_it_as_it_was_emitted(
    bus: OutboxEventBus,
) -> None:
    seen: dict[str, list[Any]] = {"first": [], "second": []}
    changed = anyio.Event()

    @bus.on("t")
    async def first(event: Event) -> None:
        seen["first"].append(dict(event.payload))
        event.payload["n"] += 1
        changed.set()
        if len(seen["first"]) == 1:
            raise ConnectionError("again")

    @bus.on("t")
    async def second(event: Event) -> None:
        await changed.wait()
        seen["second"].append(dict(event.payload))

    async with bus:
        await bus.emit("t", {"n": 1})
        await bus.drain(5)
    assert seen == {"first": [{"n": 1}, {"n": 1}], "second": [{"n": 2}]}


async def test_subscribe_off_and_remove(bus: OutboxEventBus) -> None:
    async def handler(event: Event) -> None: ...

    bus.subscribe(["a", "b"], handler)
    assert bus.handlers("a") == bus.handlers("b") == [handler]
    assert bus.off("a", handler) is True
    assert bus.off("a", handler) is False
    bus.remove_all_handlers("b")
    assert bus.handlers("b") == []
    bus.subscribe(["a", "b"], handler)
    bus.remove_all_handlers()
    assert bus.handlers("a") == []
    with pytest.raises(ConfigurationError, match=r"several types; for one, use on\('user'"):
        bus.subscribe("user", handler)


async def test_once_ends_after_it_succeeded(bus: OutboxEventBus) -> None:
    attempts: list[int] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ValueError("not yet")

    bus.once("t", handler)
    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert attempts == [1, 2, 3]
    assert bus.handlers("t") == []


def test_two_handlers_of_one_name_are_refused(bus: OutboxEventBus) -> None:
    async def handler(event: Event) -> None: ...

    bus.on("t", handler)
    with pytest.raises(DuplicateHandlerError, match="name=") as caught:
        bus.on("t", handler)
    assert caught.value.event_type == "t"
    bus.on("t", handler, name="again")


def not_async(event: Event) -> None: ...


async def no_argument() -> None: ...


async def three_arguments(event: Event, delivery: Delivery, more: int) -> None: ...


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (not_async, "must be an async function"),
        ("text", "must be an async function"),
        (functools.partial(not_async), "must be an async function"),
        (no_argument, "one argument .event. or two"),
        (three_arguments, "one argument .event. or two"),
    ],
)
def test_handler_that_cannot_work_is_refused(bus: OutboxEventBus, handler: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        bus.on("t", handler)


async def test_callables_of_all_kinds_are_handlers(bus: OutboxEventBus) -> None:
    ran: list[str] = []

    class Mailer:
        async def send(self, event: Event) -> None:
            ran.append("method")

        async def __call__(self, event: Event) -> None:
            ran.append("object")

    async def with_default(event: Event, retries: int = 7) -> None:
        ran.append(f"default {retries}")

    async def three(event: Event, prefix: str) -> None:
        ran.append(f"partial {prefix}")

    mailer = Mailer()
    for handler in (mailer.send, mailer, with_default, functools.partial(three, prefix="x")):
        bus.on("t", handler)
    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert sorted(ran) == ["default 7", "method", "object", "partial x"]


def test_many_handlers_warn_or_call_back(outbox: InMemoryOutbox) -> None:
    async def handler(event: Event) -> None: ...

    calls: list[Any] = []
    bus = OutboxEventBus(outbox, max_handlers=2, on_max_handlers=lambda *args: calls.append(args))
    for n in range(3):
        bus.on("t", handler, name=f"{n}")
    assert calls == [(bus, "t", 3)]
    warning = OutboxEventBus(outbox, max_handlers=1)
    warning.on("t", handler)
    with pytest.warns(UserWarning, match="2 handlers are registered for 't'"):
        warning.on("t", handler, name="second")


# Emitting


async def test_emit_many_keeps_the_order(bus: OutboxEventBus) -> None:
    events = [Event("t", {"n": n}) for n in range(60)]
    assert await bus.emit_many(iter(events)) == events
    assert await bus.emit_many([]) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda bus: bus.emit(Event("t"), {"payload": "twice"}),
        lambda bus: bus.emit(Event("t"), id="another"),
        lambda bus: bus.emit_many(["not an event"]),
        lambda bus: bus.emit_many(Event("t")),
        lambda bus: bus.emit_many(5),
        lambda bus: bus.emit(""),
        lambda bus: bus.emit("t", id=""),
        lambda bus: bus.emit("t", id="x" * 2049),
    ],
)
async def test_emit_of_what_is_not_an_event_is_refused(bus: OutboxEventBus, outbox: InMemoryOutbox, call: Any) -> None:
    with pytest.raises(InvalidEventError):
        await call(bus)
    assert await outbox.count(PENDING) == 0


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "soon", True])
async def test_delay_that_is_not_a_time_is_refused(bus: OutboxEventBus, delay: Any) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        await bus.emit("t", delay=delay)


async def test_delayed_event_waits_for_its_time_and_no_longer() -> None:
    outbox = quick(poll_interval=60)
    bus = OutboxEventBus(outbox)
    async with bus:
        bus.on("t", handled := Recorder())
        began = asyncio.get_running_loop().time()
        await bus.emit("t", delay=0.2)
        await bus.wait_for("t", timeout=5)
    assert handled.times[0] - began == pytest.approx(0.2, abs=0.011)


async def test_event_is_delivered_at_its_time() -> None:
    now = 1_800_000_000.0
    outbox = quick(clock=lambda: now)
    bus = OutboxEventBus(outbox)
    bus.on("t", handled := Recorder())
    at = datetime.fromtimestamp(now, timezone(timedelta(hours=3)))
    await bus.emit("t", "in two years", deliver_at=at + timedelta(days=730))
    await bus.emit_many([Event("t", "past")], deliver_at=at - timedelta(days=1))
    assert [await bus.run_once(), await bus.run_once()] == [1, 0]
    now += 730 * 86_400 - 1
    assert await bus.run_once() == 0
    now += 1
    assert await bus.run_once() == 1
    assert [event.payload for event in handled.events] == ["past", "in two years"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deliver_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - the naive one is refused
        ({"deliver_at": 5}, "deliver_at=5"),
        ({"deliver_at": datetime(9999, 1, 1, tzinfo=UTC)}, "deliver_at=9999-01-01.* more than ten years ahead"),
        ({"deliver_at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "give one of them"),
        ({"if_exists": "replace"}, "must be 'raise' or 'ignore'"),
    ],
)
async def test_invalid_emit_options_are_refused(bus: OutboxEventBus, options: dict[str, Any], says: str) -> None:
    for emit in (bus.emit("t", **options), bus.emit_many([Event("t")], **options)):
        with pytest.raises(ConfigurationError, match=says):
            await emit


async def test_second_emit_of_an_id_is_refused_or_passed_over(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    first = await bus.emit("t", 1, id="order-1")
    with pytest.raises(DuplicateEventError, match="order-1"):
        await bus.emit("t", 2, id="order-1")
    passed_over = await bus.emit("t", 3, id="order-1", if_exists="ignore")
    assert passed_over is not None
    assert (passed_over.payload, passed_over.already_stored, first.already_stored) == (1, True, False)
    await bus.emit_many([Event("t", 4, id="order-1"), Event("t", 5, id="order-2")], if_exists="ignore")
    await bus.emit_many([Event("t", 6, id="order-1"), Event("t", 7, id="order-2")], if_exists="ignore")
    with pytest.raises(PartialPublishError) as caught:
        await bus.emit_many([Event("t", id="order-1"), Event("t", id="order-3")])
    assert isinstance(caught.value.causes["order-1"], DuplicateEventError)
    with pytest.raises(DuplicateEventError, match="the id 'same' is there twice in one call; nothing was sent"):
        await bus.emit_many([Event("t", id="same"), Event("t", id="same")], if_exists="ignore")
    assert await outbox.count(PENDING) == 3
    assert sorted(claim.event.payload or 0 for claim in await outbox.claim(9)) == [0, first.payload, 5]


async def test_notify_wakes_the_worker(bus: OutboxEventBus) -> None:
    outbox = quick(poll_interval=60)
    bus = OutboxEventBus(outbox)
    bus.on("t", Recorder())
    bus.notify()  # nothing runs: nothing to wake
    async with bus:
        await anyio.sleep(0.05)
        await outbox.publish([Event("t")])  # as a transaction of the user's would
        bus.notify()
        await bus.wait_for("t", timeout=5)


class Recorder:
    """A handler that notes when it was called, and with what."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(asyncio.get_running_loop().time())


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

    bus.on("t", handler, name="mail")
    async with bus:
        event = await bus.emit("t", {"n": 1})
        await bus.drain(10)
        assert attempts == [1, 2, 3, 4, 5, 6]
        (failed,) = await bus.get_failed_events()
        assert (failed.id, failed.retry_count, failed.payload) == (event.id, 5, {"n": 1})
        assert "mail" in failed.last_error
        assert "ValueError: no" in failed.last_error
        works = True
        assert await bus.retry_events([event.id, "unknown"]) == 1
        await bus.drain(5)
    assert attempts[-1] == 1
    assert await bus.get_failed_events() == []
    assert [type(error) for error in errors] == [HandlerError] * 6
    assert isinstance(errors[0].__cause__, ValueError)


async def test_rejected_event_is_failed_at_once(bus: OutboxEventBus) -> None:
    @bus.on("t")
    async def handler(event: Event) -> None:
        raise Reject("no such customer")

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    (failed,) = await bus.get_failed_events(type="t")
    assert failed.retry_count == 0
    assert "no such customer" in failed.last_error


async def test_retry_later_decides_the_delay(bus: OutboxEventBus, errors: list[Exception]) -> None:
    handled = Recorder()

    @bus.on("t")
    async def handler(event: Event, delivery: Delivery) -> None:
        await handled(event)
        if delivery.attempt == 1:
            raise RetryLater(0.3, "rate limit")

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert handled.times[1] - handled.times[0] == pytest.approx(0.3, abs=0.011)
    assert errors == []


async def test_event_without_a_handler_is_retried_until_one_comes(bus: OutboxEventBus, errors: list[Exception]) -> None:
    async with bus:
        await bus.emit("t")
        while not errors:
            await anyio.sleep(0.005)
        bus.on("t", handled := Recorder())
        await bus.drain(5)
    assert len(handled.events) == 1
    assert isinstance(errors[0], NoHandlerError)


async def test_handler_is_cancelled_before_its_lease_ends(errors: list[Exception]) -> None:
    outbox = quick(processing_timeout=0.3, max_retries=0)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    ended: list[str] = []

    @bus.on("t")
    async def slow(event: Event) -> None:
        try:
            await anyio.sleep(10)
        finally:
            ended.append("cancelled")

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert ended == ["cancelled"]
    assert [type(error) for error in errors] == [HandlerTimeoutError]
    assert "declare a longer timeout for it: on('t', timeout=...)" in (await bus.get_failed_events())[0].last_error


async def test_handler_that_awaits_a_cancelled_task_has_failed(bus: OutboxEventBus, errors: list[Exception]) -> None:
    ran = 0

    @bus.on("t")
    async def handler(event: Event) -> None:
        nonlocal ran
        ran += 1
        if ran == 1:
            task = asyncio.ensure_future(asyncio.sleep(10))
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert ran == 2
    assert [type(error) for error in errors] == [HandlerError]


# Lifecycle


async def test_start_twice_is_refused_and_stop_twice_is_not(bus: OutboxEventBus) -> None:
    await bus.start()
    assert bus.running
    with pytest.raises(UsageError, match="started already"):
        await bus.start()
    await bus.stop()
    assert not bus.running
    await bus.stop()
    await bus.start()
    assert bus.running
    await bus.stop()


async def test_start_and_stop_in_different_tasks(bus: OutboxEventBus) -> None:
    await asyncio.create_task(bus.start())
    bus.on("t", handled := Recorder())
    await bus.emit("t")
    await bus.drain(5)
    await asyncio.create_task(bus.stop())
    assert len(handled.events) == 1


async def test_nothing_is_left_after_stop(bus: OutboxEventBus) -> None:
    before = asyncio.all_tasks()
    bus.on("t", Recorder())
    async with bus:
        await bus.emit_many([Event("t") for _ in range(50)])
        await bus.drain(5)
    assert asyncio.all_tasks() == before


async def test_stop_lets_handlers_finish(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    began, release = anyio.Event(), anyio.Event()

    @bus.on("t")
    async def handler(event: Event) -> None:
        began.set()
        await release.wait()

    await bus.start()
    event = await bus.emit("t")
    await began.wait()
    async with anyio.create_task_group() as group:
        group.start_soon(bus.stop)
        await anyio.sleep(0.05)
        assert not bus.running
        late = await bus.emit("t")
        release.set()
    assert outbox.status_of(event.id) is COMPLETED
    assert outbox.status_of(late.id) is PENDING


async def test_stop_with_a_timeout_releases_what_still_runs(outbox: InMemoryOutbox) -> None:
    slow, other = OutboxEventBus(outbox), OutboxEventBus(outbox)
    began = anyio.Event()

    @slow.on("t")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    other.on("t", handled := Recorder())
    await slow.start()
    await slow.emit("t", id="e")
    await began.wait()
    await slow.stop(timeout=0.05)
    assert (outbox.status_of("e"), outbox._events["e"].retry_count) == (PENDING, 0)
    async with other:
        await other.drain(5)
    assert len(handled.events) == 1


async def test_second_stop_may_shorten_the_first(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    began = anyio.Event()

    @bus.on("t")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    await bus.start()
    event = await bus.emit("t")
    await began.wait()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(bus.stop)
            await anyio.sleep(0.02)
            await bus.stop(timeout=0)
    assert outbox.status_of(event.id) is PENDING


async def test_cancelled_body_still_stops_the_bus(bus: OutboxEventBus) -> None:
    before = asyncio.all_tasks()
    with anyio.move_on_after(0.05):
        async with bus:
            await anyio.sleep_forever()
    assert not bus.running
    assert asyncio.all_tasks() == before


async def test_cancelling_the_worker_task_leaves_no_task(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    before = asyncio.all_tasks()
    began = anyio.Event()

    @bus.on("t")
    async def hang(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    await bus.start()
    event = await bus.emit("t")
    await began.wait()
    (owner,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    owner.cancel()
    await bus.stop()
    assert asyncio.all_tasks() == before
    assert outbox.status_of(event.id) is PENDING


async def test_run_once_handles_one_batch(outbox: InMemoryOutbox, errors: list[Exception]) -> None:
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("t", handled := Recorder())
    await bus.emit_many([Event("t") for _ in range(12)])
    assert [await bus.run_once() for _ in range(3)] == [10, 2, 0]
    assert len(handled.events) == 12
    async with bus:
        with pytest.raises(UsageError, match="without a running worker"):
            await bus.run_once()


async def test_slow_handler_delays_no_other_and_concurrency_is_kept(errors: list[Exception]) -> None:
    outbox = quick(concurrency=4, batch_size=4)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    release = anyio.Event()
    running = most = done = 0

    @bus.on("slow")
    async def slow(event: Event) -> None:
        await release.wait()

    @bus.on("quick")
    async def quick_handler(event: Event) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        done += 1

    async with bus:
        blocked = await bus.emit("slow")
        events = await bus.emit_many([Event("quick") for _ in range(40)])
        with anyio.fail_after(5):
            while done < 40 or outbox.status_of(events[-1].id) is not COMPLETED:
                await anyio.sleep(0.005)
        assert outbox.status_of(blocked.id) is PROCESSING
        release.set()
        await bus.drain(5)
    assert most <= 3
    assert errors == []


# Errors of the storage


class FaultyOutbox(InMemoryOutbox):
    """Fails on demand: a mock for what no engine can be asked to do."""

    claim_error: Exception | None = None
    settle_error: Exception | None = None
    recover_error: Exception | None = None
    looks = 0

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        self.looks += 1
        if self.claim_error:
            raise self.claim_error
        return await super().claim(limit)

    async def settle(self, settlements: Any) -> Any:
        if isinstance(self.settle_error, LeaseLostError | UnavailableError):
            return [self.settle_error] * len(settlements)
        if self.settle_error:
            raise self.settle_error
        return await super().settle(settlements)

    async def recover(self, *, max_retries: int | None = None) -> Any:
        if self.recover_error:
            raise self.recover_error
        return await super().recover(max_retries=max_retries)


DOWN = UnavailableError(operation="query", attempts=3, reason="connection refused", maybe_applied=False)


async def test_polling_errors_back_off_and_end(errors: list[Any]) -> None:
    outbox = FaultyOutbox(poll_interval=0.01, claim_on_emit=False)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("t", handled := Recorder())
    outbox.claim_error = DOWN
    async with bus:
        while len(errors) < 3:
            await anyio.sleep(0.005)
        assert bus.running
        outbox.claim_error = None
        await bus.emit("t")
        await bus.drain(5)
        assert len(handled.events) == 1
        outbox.claim_error = DOWN
        count = len(errors)
        while len(errors) == count:
            await anyio.sleep(0.005)
    assert [type(error) for error in errors] == [PollingError] * len(errors)
    assert [error.errors for error in errors[:3]] == [1, 2, 3]
    assert [error.retry_in for error in errors[:3]] == [0.02, 0.04, 0.08]
    assert errors[count].errors == 1
    assert errors[0].__cause__ is DOWN


async def test_unforeseen_error_in_a_loop_is_reported_and_ends_nothing(errors: list[Any]) -> None:
    outbox = FaultyOutbox(poll_interval=0.01)
    outbox.claim_error, outbox.recover_error = ZeroDivisionError("bug"), RuntimeError("bug")
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("t", handled := Recorder())
    async with bus:
        while {error.loop for error in errors} != {"polling", "recovery"}:
            await anyio.sleep(0.005)
        outbox.claim_error = outbox.recover_error = None
        await bus.emit("t")
        await bus.drain(5)
    assert {type(error) for error in errors} == {WorkerError}
    assert len(handled.events) == 1


async def test_settle_that_fails_is_reported_and_the_event_comes_again(errors: list[Any]) -> None:
    outbox = FaultyOutbox(poll_interval=0.01, processing_timeout=0.2)
    outbox.settle_error = DOWN
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("t", handled := Recorder())
    async with bus:
        await bus.emit("t")
        while not errors:
            await anyio.sleep(0.005)
        outbox.settle_error = None
        await bus.drain(5)
    assert isinstance(errors[0], SettleError)
    assert len(handled.events) == 2


async def test_lost_lease_is_reported(errors: list[Any]) -> None:
    outbox = FaultyOutbox(poll_interval=0.01)
    outbox.settle_error = LeaseLostError(event_id="e", event_type="t", outcome="complete")
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("t", Recorder())
    async with bus:
        await bus.emit("t", id="e")
        while not errors:
            await anyio.sleep(0.005)
    assert errors == [outbox.settle_error]


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_error_that_raises_changes_nothing(
    outbox: InMemoryOutbox, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def tell(error: Exception) -> None:
        told.append(error)
        raise RuntimeError("the reporter is broken")

    async def tell_async(error: Exception) -> None:
        tell(error)

    bus = OutboxEventBus(outbox, on_error=tell_async if is_async else tell)

    @bus.on("t")
    async def handler(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError

    async with bus:
        await bus.emit("t")
        await bus.drain(5)
    assert len(told) == 1
    assert "on_error raised" in caplog.text


async def test_errors_go_to_the_outbox_callback_or_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def fail(event: Event) -> None:
        raise ValueError("boom")

    for outbox in (quick(max_retries=0, on_error=told.append), quick(max_retries=0)):
        bus = OutboxEventBus(outbox)
        bus.on("t", fail)
        async with bus:
            await bus.emit("t")
            await bus.drain(5)
    assert len(told) == 1
    assert [record.name for record in caplog.records if "boom" in record.message] == ["dynamodb_outbox"]


# Recovery


async def test_event_of_a_dead_worker_is_recovered(outbox: InMemoryOutbox) -> None:
    await outbox.publish([Event("t", id="e")])
    await outbox.claim(1)
    outbox._events["e"].sort_key = 0  # its lease ran out long ago
    bus = OutboxEventBus(outbox)
    bus.on("t", handled := Recorder())
    async with bus:
        await bus.drain(5)
    assert len(handled.events) == 1
    assert outbox._events["e"].retry_count == 1


# Waiting


async def test_wait_for_returns_the_next_completed_event(bus: OutboxEventBus) -> None:
    bus.on("t", Recorder())
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.emit, "t", {"n": 1})
        assert (await bus.wait_for("t")).payload == {"n": 1}


async def test_waiting_for_many_types_leaves_nothing_behind() -> None:
    waiters: Any = Waiters()
    for n in range(50):
        with anyio.move_on_after(0.01):
            await waiters.next_of(f"order-{n}")
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(waiters.next_of, "t")
        await anyio.sleep(0.01)
        waiters.completed(Event("nobody waits for it"))
        waiters.completed(Event("t"))
    assert waiters._waiting == {}


async def test_wait_for_times_out(bus: OutboxEventBus) -> None:
    with pytest.raises(WaitTimeoutError, match="no 't' event was completed"):
        await bus.wait_for("t", timeout=0.01)
    with pytest.raises(TimeoutError):
        await bus.wait_for("t", timeout=0)


async def test_drain_waits_for_delayed_events_and_names_what_is_left(bus: OutboxEventBus) -> None:
    bus.on("t", handled := Recorder())
    async with bus:
        await bus.emit("t", delay=0.15)
        await bus.drain(5)
        assert len(handled.events) == 1
        await bus.emit_many([Event("t") for _ in range(3)], delay=60)
        with pytest.raises(WaitTimeoutError, match="3 PENDING") as caught:
            await bus.drain(0.1)
    assert caught.value.left == {"PENDING": 3, "PROCESSING": 0}


# Middleware


async def test_emit_middleware_replaces_drops_and_raises(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    order: list[str] = []

    async def stamp(event: Event, call_next: Any) -> None:
        order.append("stamp")
        await call_next(dataclasses.replace(event, metadata={"tenant": "a"}))

    async def guard(event: Event, call_next: Any) -> None:
        order.append("guard")
        if event.type == "secret":
            return
        if event.type == "bad":
            raise PermissionError("not you")
        await call_next(event)

    bus.add_emit_middleware(stamp, guard)
    sent = await bus.emit("t")
    assert (sent.metadata, order) == ({"tenant": "a"}, ["stamp", "guard"])
    stored = await bus.emit_many([Event("a", id="1"), Event("secret", id="2"), Event("b", id="3")])
    assert [event.id for event in stored] == ["1", "3"]
    with pytest.raises(PermissionError):
        await bus.emit_many([Event("c"), Event("bad")])
    assert await outbox.count(PENDING) == 3


async def test_handler_middleware_wraps_each_handler(bus: OutboxEventBus) -> None:
    log: list[str] = []

    async def trace(event: Event, call_next: Any) -> None:
        log.append("before")
        await call_next(dataclasses.replace(event, payload="replaced"))
        log.append("after")

    bus.add_handler_middleware(trace)
    bus.on("t", handled := Recorder())
    async with bus:
        await bus.emit("t", "original")
        await bus.drain(5)
    assert ([event.payload for event in handled.events], log) == (["replaced"], ["before", "after"])


async def test_handler_middleware_may_drop_or_fail(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    calls = 0

    async def gate(event: Event, call_next: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("the cache is down")

    bus.add_handler_middleware(gate)
    bus.on("t", handled := Recorder())
    async with bus:
        event = await bus.emit("t")
        await bus.drain(5)
    assert (handled.events, calls, outbox.status_of(event.id)) == ([], 2, COMPLETED)


async def test_stop_waits_for_slow_reports(outbox: InMemoryOutbox) -> None:
    told: list[Exception] = []

    async def slow(error: Exception) -> None:
        await anyio.sleep(0.05)
        told.append(error)

    bus = OutboxEventBus(outbox, on_error=slow)
    failed = anyio.Event()

    @bus.on("t")
    async def handler(event: Event) -> None:
        failed.set()
        raise Reject("no use")

    with anyio.fail_after(5):
        async with bus:
            await bus.emit("t")
            await failed.wait()
    assert [type(error) for error in told] == [HandlerError]


# Types that cannot be


async def test_catch_all_type_is_refused(bus: OutboxEventBus) -> None:
    handled = Recorder()
    for register in (
        lambda: bus.on("*", handled),
        lambda: bus.on("*")(handled),
        lambda: bus.once("*", handled),
        lambda: bus.subscribe(["a", "*"], handled),
    ):
        with pytest.raises(ConfigurationError, match=r"'\*'.*no catch-all.*subscribe"):
            register()
    assert bus.handlers("*") == bus.handlers("a") == []


async def test_refused_subscription_registers_nothing(bus: OutboxEventBus) -> None:
    handled = Recorder()
    bus.on("b", handled)
    for types, error in (
        (["a", "b", "c"], DuplicateHandlerError),
        (["a", "a"], DuplicateHandlerError),
        (["a", ""], ConfigurationError),
        (["a", None], ConfigurationError),
    ):
        with pytest.raises(error):
            bus.subscribe(types, handled)  # type: ignore[arg-type]
        assert (bus.handlers("a"), bus.handlers("c")) == ([], [])
    with pytest.raises(ConfigurationError):
        bus.subscribe(["a", "c"], handled, max_retries=-1)
    assert bus.handlers("a") == []
