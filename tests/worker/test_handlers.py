"""Handlers of the bus: what they are called with, and how they are registered and removed."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import ConfigurationError, Delivery, DuplicateHandlerError, Event, EventStatus, OutboxEventBus
from tests.fakes import Recorder, ScriptedOutbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


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


async def test_handler_may_ask_for_its_delivery(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    got: list[Delivery] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        got.append(delivery)
        if delivery.attempt == 1:
            raise ValueError("once more")

    bus.on("order.placed", handler, name="mail")
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert [(d.attempt, d.max_attempts, d.handler) for d in got] == [(1, 6, "mail"), (2, 6, "mail")]
    assert got[0].lease_expires_at == pytest.approx(outbox.options.clock() + 30, abs=5)


async def test_decorated_handler_gets_what_its_wrapper_takes(bus: OutboxEventBus) -> None:
    got: list[tuple[Any, ...]] = []

    async def with_session(event: Event, session: str) -> None:
        got.append((event.type, session))

    @functools.wraps(with_session)
    async def injected(event: Event) -> None:
        await with_session(event, "session")

    async def plain(event: Event) -> None:
        got.append((event.type,))

    @functools.wraps(plain)
    async def tells_attempt(event: Event, delivery: Delivery) -> None:
        got.append((event.type, delivery.attempt))
        await plain(event)

    async def with_delivery(event: Event, delivery: Delivery) -> None:
        got.append((event.type, delivery.attempt))

    @functools.wraps(with_delivery)
    async def passes_all(*args: Any, **options: Any) -> None:
        await with_delivery(*args, **options)

    bus.on("a", injected)
    bus.on("b", tells_attempt)
    bus.on("c", passes_all)
    async with bus:
        await bus.emit_many([Event("a"), Event("b"), Event("c")])
        await bus.drain(5)
    assert sorted(got) == [("a", "session"), ("b",), ("b", 1), ("c", 1)]


async def test_handler_whose_decorator_is_not_async_is_told_so(bus: OutboxEventBus) -> None:
    async def plain(event: Event) -> None: ...

    @functools.wraps(plain)
    def traced(event: Event) -> Any:
        return plain(event)

    with pytest.raises(ConfigurationError, match="its decorator makes it a function that is not async"):
        bus.on("order.placed", traced)


@pytest.mark.parametrize("through_middleware", [False, True])
@pytest.mark.parametrize("way", ["coroutine", "task"])
async def test_handler_that_returns_its_work_has_failed(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any], way: str, *, through_middleware: bool
) -> None:
    async def work() -> None: ...

    @bus.on("order.placed", name="ship", max_retries=0)
    async def ship(event: Event) -> Any:
        return work() if way == "coroutine" else asyncio.ensure_future(work())

    async def passes_on(event: Event, call_next: Any) -> None:
        await call_next(event)

    if through_middleware:
        bus.add_handler_middleware(passes_on)
    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
    assert outbox.status_of(event.id) is FAILED
    assert "handler 'ship' returned a" in str(errors[0])
    assert "write `await`" in str(errors[0])


async def test_every_handler_of_the_type_runs_and_no_other(bus: OutboxEventBus) -> None:
    ran: list[str] = []

    def handler(name: str) -> Callable[[Event], Awaitable[None]]:
        async def handle(event: Event) -> None:
            ran.append(name)

        return handle

    for name in ("a", "b"):
        bus.on("order.placed", handler(name), name=name)
    bus.on("other", handler("other"))
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert sorted(ran) == ["a", "b"]


async def test_only_the_failed_handler_runs_again(bus: OutboxEventBus) -> None:
    ran: Counter[str] = Counter()

    @bus.on("order.placed")
    async def steady(event: Event) -> None:
        ran["steady"] += 1

    @bus.on("order.placed")
    async def flaky(event: Event) -> None:
        ran["flaky"] += 1
        if ran["flaky"] <= 3:
            raise ValueError("not yet")

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert ran == {"steady": 1, "flaky": 4}


async def test_handlers_share_the_payload_of_an_attempt_and_the_next_attempt_has_it_as_it_was_emitted(
    bus: OutboxEventBus,
) -> None:
    seen: dict[str, list[Any]] = {"first": [], "second": []}
    changed = anyio.Event()

    @bus.on("order.placed")
    async def first(event: Event) -> None:
        seen["first"].append(dict(event.payload))
        event.payload["n"] += 1
        changed.set()
        if len(seen["first"]) == 1:
            raise ConnectionError("again")

    @bus.on("order.placed")
    async def second(event: Event) -> None:
        await changed.wait()
        seen["second"].append(dict(event.payload))

    async with bus:
        await bus.emit("order.placed", {"n": 1})
        await bus.drain(5)
    assert seen == {"first": [{"n": 1}, {"n": 1}], "second": [{"n": 2}]}


async def test_subscribe_off_and_remove(bus: OutboxEventBus) -> None:
    async def handler(event: Event) -> None: ...

    bus.subscribe(["b", "a"], handler)
    assert bus.handlers("a") == bus.handlers("b") == [handler]
    assert bus.event_types() == ["a", "b"]
    assert bus.off("a", handler) is True
    assert bus.off("a", handler) is False
    bus.remove_all_handlers("b")
    assert bus.handlers("b") == []
    assert bus.event_types() == []
    bus.subscribe(["a", "b"], handler)
    bus.remove_all_handlers()
    assert bus.handlers("a") == []
    with pytest.raises(ConfigurationError, match=r"a list of types; for one type, use on\('user'"):
        bus.subscribe("user", handler)


async def test_once_ends_after_it_succeeded(bus: OutboxEventBus) -> None:
    attempts: list[int] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ValueError("not yet")

    bus.once("order.placed", handler)
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert attempts == [1, 2, 3]
    assert bus.handlers("order.placed") == []


def test_two_handlers_of_one_name_are_refused(bus: OutboxEventBus) -> None:
    async def handler(event: Event) -> None: ...

    bus.on("order.placed", handler)
    with pytest.raises(DuplicateHandlerError, match="name=") as caught:
        bus.on("order.placed", handler)
    assert caught.value.event_type == "order.placed"
    bus.on("order.placed", handler, name="again")


def not_async(event: Event) -> None: ...


async def no_argument() -> None: ...


async def three_arguments(event: Event, delivery: Delivery, more: int) -> None: ...


class Mailer:
    async def send(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (Mailer.send, "register the bound method"),
        (Mailer, r"it is a class; pass an instance of it, such as Mailer\(\.\.\.\)"),
        (not_async, "must be an async function"),
        ("text", "must be an async function"),
        (functools.partial(not_async), "must be an async function"),
        (no_argument, "one argument .event. or two"),
        (three_arguments, "one argument .event. or two"),
    ],
)
def test_handler_that_cannot_work_is_refused(bus: OutboxEventBus, handler: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        bus.on("order.placed", handler)


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
        bus.on("order.placed", handler)
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert sorted(ran) == ["default 7", "method", "object", "partial x"]


def test_many_handlers_warn_or_call_back(outbox: ScriptedOutbox) -> None:
    async def handler(event: Event) -> None: ...

    calls: list[Any] = []
    bus = OutboxEventBus(outbox, max_handlers=2, on_max_handlers=lambda *args: calls.append(args))
    for n in range(3):
        bus.on("order.placed", handler, name=f"{n}")
    assert calls == [(bus, "order.placed", 3)]
    warning = OutboxEventBus(outbox, max_handlers=1)
    warning.on("order.placed", handler)
    with pytest.warns(UserWarning, match=r"2 handlers are registered for 'order\.placed'"):
        warning.on("order.placed", handler, name="second")


def test_warning_of_many_handlers_points_at_the_caller(outbox: ScriptedOutbox) -> None:
    async def handler(event: Event) -> None: ...

    bus = OutboxEventBus(outbox, max_handlers=1)
    bus.on("order.placed", handler, name="1")
    for register in (
        lambda: bus.on("order.placed", handler, name="2"),
        lambda: bus.on("order.placed", name="3")(handler),
        lambda: bus.subscribe(["order.placed"], handler, name="4"),
        lambda: bus.once("order.placed", handler, name="5"),
    ):
        with pytest.warns(UserWarning, match="handlers are registered") as caught:
            register()
        assert [warning.filename for warning in caught] == [__file__]


# Types that cannot be


@pytest.mark.parametrize("event_type", [not_async, Recorder(), 3, None, ""])
def test_decorator_without_a_type_is_refused_at_once(bus: OutboxEventBus, event_type: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'@bus\.on\("order\.placed"\)'):
        bus.on(event_type)


async def test_catch_all_type_is_refused(bus: OutboxEventBus) -> None:
    handled = Recorder()
    for register in (
        lambda: bus.on("*", handled),
        lambda: bus.on("*")(handled),
        lambda: bus.once("*", handled),
        lambda: bus.subscribe(["a", "*"], handled),
    ):
        with pytest.raises(ConfigurationError, match=r"'\*'.*on_any.*subscribe"):
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
