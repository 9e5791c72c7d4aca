"""What middleware may call `call_next` with, and how often; and what can be registered."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    Event,
    EventStatus,
    InMemoryOutbox,
    MiddlewareError,
    OutboxError,
    OutboxEventBus,
)

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def plain(event: Event, call_next: Any) -> None:
    await call_next(event)


# A chain goes on once


async def twice(event: Event, call_next: Any) -> None:
    await call_next(event)
    await call_next(event)


async def twice_and_suppresses(event: Event, call_next: Any) -> None:
    for _ in range(3):
        with contextlib.suppress(OutboxError):
            await call_next(event)


async def two_events(event: Event, call_next: Any) -> None:
    await call_next(event)
    await call_next(Event("another"))


@pytest.mark.parametrize("middleware", [twice, twice_and_suppresses])
async def test_handler_middleware_calls_the_handler_once(
    bus: OutboxEventBus, outbox: InMemoryOutbox, handled: list[Event], errors: list[Any], middleware: Any
) -> None:
    bus.add_handler_middleware(plain, middleware, plain)
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert (handled, outbox.status_of(event.id)) == ([event], FAILED)
    (error,) = errors
    assert f"middleware '{__name__}.{middleware.__name__}' called call_next twice" in str(error.__cause__)


@pytest.mark.parametrize("middleware", [twice, twice_and_suppresses, two_events])
async def test_emit_middleware_stores_one_event_for_one(
    bus: OutboxEventBus, outbox: InMemoryOutbox, middleware: Any
) -> None:
    bus.add_emit_middleware(plain, middleware, plain)
    with pytest.raises(
        MiddlewareError, match=rf"middleware '{__name__}\.{middleware.__name__}' called call_next twice"
    ):
        await bus.emit("order.placed")
    assert await outbox.count(PENDING) == 0


# What may be handed on


def suppressing(change: Callable[[Event], Any]) -> Any:
    """A middleware that hands on another event, and hides whatever comes of it."""

    async def changes(event: Event, call_next: Any) -> None:
        with contextlib.suppress(OutboxError):
            await call_next(change(event))

    return changes


@pytest.mark.parametrize(
    "case",
    [
        (
            lambda event: dataclasses.replace(event, type="order.cancelled"),
            "handed on the type 'order.cancelled' instead of 'order.placed'",
        ),
        (
            lambda event: dataclasses.replace(event, id="order.cancelled"),
            "handed on the id 'order.cancelled' instead of 'e'",
        ),
        (
            lambda event: dataclasses.replace(event, ordering_key="order-18"),
            "handed on the ordering key 'order-18' instead of None",
        ),
        (
            lambda event: {"card": "4111"},
            "handed on a dict with 1 key instead of an Event; write `await call_next(dataclasses.replace(event",
        ),
        (lambda event: None, "handed on None instead of an Event"),
    ],
)
async def test_handler_middleware_may_not_change_type_or_id(
    outbox: InMemoryOutbox, handled: list[Event], errors: list[Any], bus: OutboxEventBus, case: tuple[Any, str]
) -> None:
    change, says = case
    bus.add_handler_middleware(plain, suppressing(change))
    await bus.emit("order.placed", id="e")
    await bus.run_once()
    assert (handled, outbox.status_of("e")) == ([], FAILED)
    (error,) = errors
    assert f"middleware '{__name__}.suppressing.changes' {says}" in str(error.__cause__)


async def test_handler_middleware_may_replace_payload_and_metadata(
    bus: OutboxEventBus, handled: list[Event], errors: list[Any]
) -> None:
    bus.add_handler_middleware(
        suppressing(lambda event: dataclasses.replace(event, payload=2, metadata={"tenant": "a"}))
    )
    await bus.emit("order.placed", 1)
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
        await bus.emit("order.placed", {"card": "4111"})


# What is dropped


async def test_dropped_event_is_not_returned_by_its_emit(bus: OutboxEventBus, outbox: InMemoryOutbox) -> None:
    async def drops(event: Event, call_next: Any) -> None:
        if event.type != "secret":
            await call_next(event)

    children: list[Any] = []

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        children.extend([await delivery.emit("secret"), await delivery.emit("child")])

    bus.add_emit_middleware(drops)
    stored = await bus.emit("order.placed")
    assert await bus.emit("secret") is None
    assert await bus.emit(Event("secret"), delay=5) is None
    assert await bus.emit_many([Event("secret"), Event("secret")]) == []
    async with bus.transaction() as tx:
        assert await bus.emit("secret", transaction=tx) is None
        tx.emit("secret")
    await bus.run_once()
    assert stored.type == "order.placed"
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


class Noting:
    """A middleware that is an object, or a method of one."""

    def __init__(self, ran: list[str]) -> None:
        self.ran = ran

    async def __call__(self, event: Event, call_next: Any, *, name: str = "object") -> None:
        self.ran.append(name)
        await call_next(event)

    async def method(self, event: Event, call_next: Any) -> None:
        self.ran.append("method")
        await call_next(event)


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
        Noting,
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
        add(plain, wrong)
    await bus.emit("order.placed")
    await bus.run_once()
    assert len(handled) == 1


@pytest.mark.parametrize("phase", ["emit", "handler"])
async def test_callables_of_all_kinds_are_middleware(bus: OutboxEventBus, handled: list[Event], phase: str) -> None:
    ran: list[str] = []

    async def default(event: Event, call_next: Any, name: str = "default") -> None:
        ran.append(name)
        await call_next(event)

    add = bus.add_emit_middleware if phase == "emit" else bus.add_handler_middleware
    noting = Noting(ran)
    add(noting, noting.method, default, functools.partial(default, name="partial"))
    add(functools.partial(noting, name="partial of an object"))
    await bus.emit("order.placed")
    await bus.run_once()
    assert ran == ["object", "method", "default", "partial", "partial of an object"]
