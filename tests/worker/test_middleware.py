"""Middleware that breaks a rule of its chain is refused by its name, and loses no event."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    Event,
    EventStatus,
    HandlerError,
    InMemoryOutbox,
    MiddlewareError,
    OutboxError,
    OutboxEventBus,
)
from dynamodb_outbox.middleware import CANCEL_SECONDS, run_chain

PENDING, PROCESSING, COMPLETED, FAILED = EventStatus


@pytest.fixture
def outbox() -> InMemoryOutbox:
    return InMemoryOutbox(poll_interval=0.01, base_backoff=0, max_retries=0)


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def bus(outbox: InMemoryOutbox, errors: list[Any]) -> OutboxEventBus:
    return OutboxEventBus(outbox, on_error=errors.append)


@pytest.fixture
def handled(bus: OutboxEventBus) -> list[Event]:
    """The events that reached the end of the one handler."""
    events: list[Event] = []

    @bus.on("t")
    async def handler(event: Event) -> None:
        await asyncio.sleep(0.1)
        events.append(event)

    return events


# A chain that was begun has to end


async def forgets_await(event: Event, call_next: Any) -> None:
    call_next(event)


async def drops_a_wrapper(event: Event, call_next: Any) -> None:
    asyncio.wait_for(call_next(event), 5).close()


async def starts_a_task(event: Event, call_next: Any) -> None:
    asyncio.get_running_loop().create_task(call_next(event))


async def leaves_a_running_task(event: Event, call_next: Any) -> None:
    running = asyncio.create_task(call_next(event))
    await asyncio.sleep(0.01)
    assert not running.done()


async def gives_up_behind_a_shield(event: Event, call_next: Any) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call_next(event)), 0.01)


class Forgetful:
    async def __call__(self, event: Event, call_next: Any) -> None:
        call_next(event)

    async def method(self, event: Event, call_next: Any) -> None:
        call_next(event)


UNFINISHED = {
    "forgets_await": forgets_await,
    "drops_a_wrapper": drops_a_wrapper,
    "starts_a_task": starts_a_task,
    "leaves_a_running_task": leaves_a_running_task,
    "gives_up_behind_a_shield": gives_up_behind_a_shield,
    "Forgetful": Forgetful(),
    "Forgetful.method": Forgetful().method,
}


async def slow(event: Event, call_next: Any) -> None:
    await asyncio.sleep(0.1)
    await call_next(event)


async def plain(event: Event, call_next: Any) -> None:
    await call_next(event)


@pytest.mark.parametrize("name", UNFINISHED)
async def test_handler_middleware_that_does_not_wait_for_the_rest_has_failed(
    bus: OutboxEventBus, outbox: InMemoryOutbox, handled: list[Event], errors: list[Any], name: str
) -> None:
    bus.add_handler_middleware(plain, UNFINISHED[name], plain)
    before = asyncio.all_tasks()
    event = await bus.emit("t")
    await bus.run_once()
    await asyncio.sleep(1)
    assert outbox.status_of(event.id) is FAILED
    assert handled == [], "the handler went on after its attempt had failed"
    assert asyncio.all_tasks() == before
    (error,) = errors
    assert isinstance(error, HandlerError)
    assert f"middleware '{__name__}.{name}'" in str(error.__cause__)
    assert "await call_next(event)" in str(error.__cause__)


@pytest.mark.parametrize("name", UNFINISHED)
async def test_emit_middleware_that_does_not_wait_for_the_rest_is_an_error_of_the_emit(
    bus: OutboxEventBus, outbox: InMemoryOutbox, name: str
) -> None:
    bus.add_emit_middleware(plain, UNFINISHED[name], slow)
    before = asyncio.all_tasks()
    with pytest.raises(MiddlewareError, match=rf"middleware '{__name__}\.{name}' .*await call_next"):
        await bus.emit("t")
    await asyncio.sleep(1)
    assert await outbox.count(PENDING) == 0
    assert asyncio.all_tasks() == before


async def test_task_that_ends_before_its_middleware_is_a_wait_like_any_other(
    bus: OutboxEventBus, outbox: InMemoryOutbox, handled: list[Event], errors: list[Any]
) -> None:
    async def in_a_task(event: Event, call_next: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call_next(event))

    bus.add_emit_middleware(in_a_task, slow)
    bus.add_handler_middleware(in_a_task)
    event = await bus.emit("t")
    await bus.run_once()
    assert (handled, errors, outbox.status_of(event.id)) == ([event], [], COMPLETED)


async def test_handler_middleware_that_keeps_an_error_for_itself_makes_a_success_of_it(
    bus: OutboxEventBus, outbox: InMemoryOutbox, errors: list[Any]
) -> None:
    async def lenient(event: Event, call_next: Any) -> None:
        with contextlib.suppress(ZeroDivisionError):
            await call_next(event)

    @bus.on("t")
    async def handler(event: Event) -> None:
        raise ZeroDivisionError

    bus.add_handler_middleware(lenient)
    event = await bus.emit("t")
    await bus.run_once()
    assert (outbox.status_of(event.id), errors) == (COMPLETED, [])


async def test_error_of_the_middleware_comes_before_what_it_left_unfinished(
    bus: OutboxEventBus, handled: list[Event], errors: list[Any]
) -> None:
    async def fails(event: Event, call_next: Any) -> None:
        call_next(event)
        raise ZeroDivisionError

    bus.add_handler_middleware(fails)
    await bus.emit("t")
    await bus.run_once()
    assert [type(error.__cause__) for error in errors] == [ZeroDivisionError]
    assert handled == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, asyncio.CancelledError])
async def test_chain_whose_middleware_raises_has_ended_before_the_error_is_raised(error: type[BaseException]) -> None:
    running = 0

    async def raises(event: Event, call_next: Any) -> None:
        rest.append(asyncio.create_task(call_next(event)))
        await asyncio.sleep(0.01)
        raise error

    async def slow_to_end(event: Event) -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(3600)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
            await asyncio.sleep(1)
            running -= 1

    rest: list[asyncio.Task[None]] = []
    with pytest.raises(error):
        await run_chain([plain, raises], Event("t"), slow_to_end)
    # A cancelled chain ends at once: the handler's task is being waited for by then.
    assert running == (error is asyncio.CancelledError)
    await asyncio.wait(rest)


async def test_error_is_raised_although_the_rest_of_the_chain_does_not_end() -> None:
    async def raises(event: Event, call_next: Any) -> None:
        rest.append(asyncio.create_task(call_next(event)))
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async def goes_on(event: Event) -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    rest: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ZeroDivisionError):
        await run_chain([raises], Event("t"), goes_on)
    assert loop.time() - began == pytest.approx(CANCEL_SECONDS, abs=0.1)
    await asyncio.wait(rest)


async def test_chain_that_is_closed_leaves_its_rest_to_itself() -> None:
    """A coroutine that is thrown away cannot wait for anything."""

    async def waits(event: Event, call_next: Any) -> None:
        rest.append(asyncio.create_task(call_next(event)))
        await asyncio.sleep(3600)

    async def end(event: Event) -> None:
        await asyncio.sleep(3600)

    rest: list[asyncio.Task[None]] = []
    chain = run_chain([waits], Event("t"), end)
    chain.send(None)
    await asyncio.sleep(0.01)
    chain.close()
    await asyncio.wait(rest)
    assert rest[0].cancelled()


async def test_handler_does_not_run_during_its_retry_when_a_middleware_raises(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    running = most = calls = 0

    async def raises(event: Event, call_next: Any) -> None:
        task = asyncio.create_task(call_next(event))
        await asyncio.sleep(0.01)
        assert not task.done()
        raise ZeroDivisionError

    @bus.on("t", max_retries=2)
    async def slow_to_end(event: Event) -> None:
        nonlocal running, most, calls
        calls += 1
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)
            raise
        finally:
            running -= 1

    bus.add_handler_middleware(raises)
    event = await bus.emit("t")
    async with bus:
        await asyncio.sleep(5)
    assert (calls, most, outbox.status_of(event.id)) == (3, 1, FAILED)


@pytest.mark.parametrize("phase", ["emit", "handler"])
async def test_chain_does_not_go_on_after_its_middleware_has_returned(
    bus: OutboxEventBus, outbox: InMemoryOutbox, handled: list[Event], phase: str
) -> None:
    late: list[asyncio.Task[None]] = []

    async def goes_on_later(event: Event, call_next: Any) -> None:
        async def later() -> None:
            await asyncio.sleep(1)
            await call_next(event)

        late.append(asyncio.create_task(later()))

    add = bus.add_emit_middleware if phase == "emit" else bus.add_handler_middleware
    add(goes_on_later)
    await bus.emit("t")
    await bus.run_once()
    await asyncio.wait(late)
    await asyncio.sleep(1)
    with pytest.raises(MiddlewareError, match=r"goes_on_later' called call_next after it had returned"):
        late[0].result()
    assert handled == []


# A chain goes on once


async def twice(event: Event, call_next: Any) -> None:
    await call_next(event)
    await call_next(event)


async def twice_and_quiet(event: Event, call_next: Any) -> None:
    for _ in range(3):
        with contextlib.suppress(OutboxError):
            await call_next(event)


async def two_events(event: Event, call_next: Any) -> None:
    await call_next(event)
    await call_next(Event("another"))


@pytest.mark.parametrize("middleware", [twice, twice_and_quiet])
async def test_handler_middleware_calls_the_handler_once(
    bus: OutboxEventBus, outbox: InMemoryOutbox, handled: list[Event], errors: list[Any], middleware: Any
) -> None:
    bus.add_handler_middleware(plain, middleware, plain)
    event = await bus.emit("t")
    await bus.run_once()
    assert (handled, outbox.status_of(event.id)) == ([event], FAILED)
    (error,) = errors
    assert f"middleware '{__name__}.{middleware.__name__}' called call_next twice" in str(error.__cause__)


@pytest.mark.parametrize("middleware", [twice, twice_and_quiet, two_events])
async def test_emit_middleware_stores_one_event_for_one(
    bus: OutboxEventBus, outbox: InMemoryOutbox, middleware: Any
) -> None:
    bus.add_emit_middleware(plain, middleware, plain)
    with pytest.raises(
        MiddlewareError, match=rf"middleware '{__name__}\.{middleware.__name__}' called call_next twice"
    ):
        await bus.emit("t")
    assert await outbox.count(PENDING) == 0


# What may be handed on


def quiet(change: Callable[[Event], Any]) -> Any:
    """A middleware that hands on another event, and hides whatever comes of it."""

    async def changes(event: Event, call_next: Any) -> None:
        with contextlib.suppress(OutboxError):
            await call_next(change(event))

    return changes


@pytest.mark.parametrize(
    "case",
    [
        (lambda event: dataclasses.replace(event, type="other"), "handed on the type 'other' instead of 't'"),
        (lambda event: dataclasses.replace(event, id="other"), "handed on the id 'other' instead of 'e'"),
        (
            lambda event: {"card": "4111"},
            "handed on a dict with 1 key instead of an Event; write `await call_next(dataclasses.replace(event",
        ),
        (lambda event: None, "handed on None instead of an Event"),
    ],
)
async def test_handler_middleware_may_not_make_another_event_of_it(
    outbox: InMemoryOutbox, handled: list[Event], errors: list[Any], bus: OutboxEventBus, case: tuple[Any, str]
) -> None:
    change, says = case
    bus.add_handler_middleware(plain, quiet(change))
    await bus.emit("t", id="e")
    await bus.run_once()
    assert (handled, outbox.status_of("e")) == ([], FAILED)
    (error,) = errors
    assert f"middleware '{__name__}.quiet.changes' {says}" in str(error.__cause__)


async def test_handler_middleware_may_replace_payload_and_metadata(
    bus: OutboxEventBus, handled: list[Event], errors: list[Any]
) -> None:
    bus.add_handler_middleware(quiet(lambda event: dataclasses.replace(event, payload=2, metadata={"tenant": "a"})))
    await bus.emit("t", 1)
    await bus.run_once()
    assert [(event.payload, event.metadata) for event in handled] == [(2, {"tenant": "a"})]
    assert errors == []


async def test_emit_middleware_may_change_type_and_id_and_hands_on_an_event(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    async def rename(event: Event, call_next: Any) -> None:
        await call_next(Event("renamed", id="new") if event.type == "old" else event.payload)

    bus.add_emit_middleware(rename)
    stored = await bus.emit("old")
    assert (stored.type, stored.id, outbox.status_of("new")) == ("renamed", "new", PENDING)
    with pytest.raises(MiddlewareError, match="rename' handed on a dict with 1 key instead of an Event"):
        await bus.emit("t", {"card": "4111"})


# What is dropped


async def test_event_that_is_dropped_is_not_returned_by_its_emit(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    async def drops(event: Event, call_next: Any) -> None:
        if event.type != "secret":
            await call_next(event)

    children: list[Any] = []

    @bus.on("t")
    async def handler(event: Event, delivery: Delivery) -> None:
        children.extend([await delivery.emit("secret"), await delivery.emit("child")])

    bus.add_emit_middleware(drops)
    stored = await bus.emit("t")
    assert await bus.emit("secret") is None
    assert await bus.emit(Event("secret"), delay=5) is None
    assert await bus.emit_many([Event("secret"), Event("secret")]) == []
    async with bus.transaction() as tx:
        assert await bus.emit("secret", transaction=tx) is None
        tx.emit("secret")
    await bus.run_once()
    assert stored.type == "t"
    assert children[0] is None
    assert children[1].type == "child"
    assert await outbox.count(PENDING) == 1


# What is registered


def not_async(event: Event, call_next: Any) -> None: ...


async def of_one_argument(event: Event) -> None: ...


async def of_three_arguments(event: Event, call_next: Any, more: Any) -> None: ...


async def never_awaits(event: Event, call_next: Any) -> AsyncIterator[None]:
    yield


class NotAsync:
    def __call__(self, event: Event, call_next: Any) -> None: ...


@pytest.mark.parametrize("phase", ["emit", "handler"])
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "text",
        not_async,
        functools.partial(not_async),
        NotAsync(),
        NotAsync,
        Forgetful,
        never_awaits,
        of_one_argument,
        of_three_arguments,
    ],
)
async def test_middleware_that_cannot_work_is_refused_with_all_of_its_call(
    bus: OutboxEventBus, handled: list[Event], phase: str, wrong: Any
) -> None:
    add = bus.add_emit_middleware if phase == "emit" else bus.add_handler_middleware
    with pytest.raises(ConfigurationError, match=r"middleware=.*event, call_next"):
        add(forgets_await, wrong)
    await bus.emit("t")
    await bus.run_once()
    assert len(handled) == 1


@pytest.mark.parametrize("phase", ["emit", "handler"])
async def test_callables_of_all_kinds_are_middleware(bus: OutboxEventBus, handled: list[Event], phase: str) -> None:
    ran: list[str] = []

    class Noting:
        async def __call__(self, event: Event, call_next: Any, *, name: str = "object") -> None:
            ran.append(name)
            await call_next(event)

        async def method(self, event: Event, call_next: Any) -> None:
            ran.append("method")
            await call_next(event)

    async def default(event: Event, call_next: Any, name: str = "default") -> None:
        ran.append(name)
        await call_next(event)

    add = bus.add_emit_middleware if phase == "emit" else bus.add_handler_middleware
    noting = Noting()
    add(noting, noting.method, default, functools.partial(default, name="partial"))
    add(functools.partial(noting, name="partial of an object"))
    await bus.emit("t")
    await bus.run_once()
    assert ran == ["object", "method", "default", "partial", "partial of an object"]


# Emit middleware of several events


async def test_middleware_that_is_added_during_a_call_waits_for_the_next_one(
    bus: OutboxEventBus, handled: list[Event]
) -> None:
    late: list[Any] = []

    async def added(event: Event, call_next: Any) -> None:
        late.append(event.payload)
        await call_next(event)

    async def adds(event: Event, call_next: Any) -> None:
        if event.payload == 0:
            bus.add_emit_middleware(added)
        await call_next(event)

    bus.add_emit_middleware(adds)
    await bus.emit_many([Event("t", n) for n in range(3)])
    assert late == []
    async with bus.transaction() as tx:
        for n in range(3, 6):
            tx.emit("t", n)
    assert late == [3, 4, 5]

    async def adds_to_the_handlers(event: Event, call_next: Any) -> None:
        if event.payload == 0:
            bus.add_handler_middleware(added)
        await call_next(event)

    late.clear()
    bus.add_handler_middleware(adds_to_the_handlers)
    await bus.run_once()
    assert 0 not in late
    assert len(handled) == 6


async def test_emit_middleware_of_several_events_runs_side_by_side_ten_at_once(bus: OutboxEventBus) -> None:
    running = most = 0

    async def waits(event: Event, call_next: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05 if event.payload % 2 else 0.1)
        running -= 1
        if event.payload != 7:
            await call_next(event)

    bus.add_emit_middleware(waits)
    loop = asyncio.get_running_loop()
    began = loop.time()
    stored = await bus.emit_many([Event("t", n) for n in range(20)])
    assert loop.time() - began == pytest.approx(0.15, abs=0.051)
    assert most == 10
    assert [event.payload for event in stored] == [n for n in range(20) if n != 7]
    began = loop.time()
    async with bus.transaction() as tx:
        for n in range(10):
            tx.emit("t", n)
    assert loop.time() - began == pytest.approx(0.1, abs=0.01)


async def test_error_in_the_middleware_of_one_event_ends_that_of_the_others(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    ended: list[int] = []

    async def fails(event: Event, call_next: Any) -> None:
        try:
            await asyncio.sleep(event.payload / 10)
        except asyncio.CancelledError:
            ended.append(event.payload)
            raise
        if event.payload == 2:
            raise PermissionError("not you")
        await call_next(event)

    bus.add_emit_middleware(fails)
    before = asyncio.all_tasks()
    with pytest.raises(PermissionError, match="not you"):
        await bus.emit_many([Event("t", n) for n in range(5)])
    assert ended == [3, 4]
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_middleware_that_swallows_its_cancellation_gets_no_further_event(
    bus: OutboxEventBus, outbox: InMemoryOutbox, *, cancelled: bool
) -> None:
    begun: list[int] = []

    async def swallows(event: Event, call_next: Any) -> None:
        begun.append(event.payload)
        if event.payload == 0 and not cancelled:
            await asyncio.sleep(0.01)
            raise PermissionError("not you")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
        await call_next(event)

    bus.add_emit_middleware(swallows)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError if cancelled else PermissionError):
        await asyncio.wait_for(bus.emit_many([Event("t", n) for n in range(200)]), 0.02)
    assert begun == list(range(10))
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


async def test_cancelled_emit_ends_the_middleware_of_all_its_events(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    ended: list[int] = []

    async def waits(event: Event, call_next: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(event.payload)
        await call_next(event)

    bus.add_emit_middleware(waits)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.emit_many([Event("t", n) for n in range(5)]), 1)
    assert sorted(ended) == [0, 1, 2, 3, 4]
    assert asyncio.all_tasks() == before
    assert await outbox.count(PENDING) == 0


async def test_middleware_that_awaits_something_cancelled_stores_nothing(
    bus: OutboxEventBus, outbox: InMemoryOutbox
) -> None:
    async def odd(event: Event, call_next: Any) -> None:
        if event.payload == 3:
            raise asyncio.CancelledError
        await call_next(event)

    bus.add_emit_middleware(odd)
    with pytest.raises(asyncio.CancelledError):
        await bus.emit_many([Event("t", n) for n in range(5)])
    assert await outbox.count(PENDING) == 0


async def test_middleware_that_waits_for_nothing_costs_no_task_per_event(bus: OutboxEventBus) -> None:
    loop = asyncio.get_running_loop()
    tasks: list[Any] = []

    def counted(loop: asyncio.AbstractEventLoop, steps: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(steps, loop=loop, **options)
        tasks.append(task)
        return task

    bus.add_emit_middleware(plain, plain)
    loop.set_task_factory(counted)
    try:
        await bus.emit("t")
        assert tasks == []
        assert len(await bus.emit_many([Event("t") for _ in range(500)])) == 500
    finally:
        loop.set_task_factory(None)
    assert len(tasks) <= 1


TENANT: ContextVar[str] = ContextVar("TENANT")


async def test_emit_middleware_runs_in_a_copy_of_the_callers_context(bus: OutboxEventBus) -> None:
    seen: list[str] = []

    async def sets(event: Event, call_next: Any) -> None:
        seen.append(TENANT.get())
        TENANT.set("another")
        await asyncio.sleep(0.01)
        await call_next(event)

    async def within(event: Event, call_next: Any) -> None:
        assert TENANT.get() == "another"
        await call_next(event)

    bus.add_emit_middleware(sets, within)
    TENANT.set("caller")
    await bus.emit_many([Event("t", n) for n in range(25)])
    await bus.emit("t")
    assert seen == ["caller"] * 26
    assert TENANT.get() == "caller"


async def test_middleware_sees_whether_it_runs_in_a_transaction(bus: OutboxEventBus) -> None:
    seen: dict[str, bool] = {}

    async def looks(event: Event, call_next: Any) -> None:
        seen[event.type] = call_next.in_transaction
        await call_next(event)

    bus.add_emit_middleware(looks)
    bus.add_handler_middleware(looks)

    @bus.on("alone")
    async def handler(event: Event, delivery: Delivery) -> None:
        await delivery.emit("delivery.emit")
        async with delivery.transaction() as tx:
            tx.emit("delivery.transaction")

    await bus.emit("alone")
    assert seen.pop("alone") is False
    await bus.run_once()
    async with bus.transaction() as tx:
        tx.emit("tx.emit")
        await bus.emit("transaction=tx", transaction=tx)
        await bus.emit("beside it")
    assert seen == {
        "alone": False,
        "delivery.emit": False,
        "delivery.transaction": True,
        "tx.emit": True,
        "transaction=tx": True,
        "beside it": False,
    }
