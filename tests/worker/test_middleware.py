"""Middleware that breaks the rules of its chain is told so by name, and costs no event."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from dynamodb_outbox import (
    Event,
    EventStatus,
    HandlerError,
    InMemoryOutbox,
    MiddlewareError,
    OutboxError,
    OutboxEventBus,
)

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
        (lambda event: {"card": "4111"}, "handed on a dict with 1 key instead of an Event"),
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
