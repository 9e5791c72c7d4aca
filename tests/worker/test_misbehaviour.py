"""Handlers, exceptions, backoffs and observers that misbehave: each costs its own attempt, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    HandlerError,
    InvalidEventError,
    OutboxEventBus,
    Reject,
    RetryLater,
    UnavailableError,
    UsageError,
    WorkerError,
)
from tests.fakes import Call, ScriptedOutbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus
LOST = UnavailableError(operation="put_item", attempts=1, reason="the reply was lost", maybe_applied=True)


class DeadlyError(BaseException):
    """Not an `Exception`: what pytest and some libraries raise."""


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise TypeError("it has no text")


def outbox_of(on_error: Any, **options: Any) -> ScriptedOutbox:
    """An outbox that polls and retries at once."""
    return ScriptedOutbox(
        **({"poll_interval": 0.01, "base_backoff": 0.0, "max_retries": 1, "on_error": on_error} | options)
    )


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def outbox(errors: list[Any]) -> ScriptedOutbox:
    return outbox_of(errors.append, concurrency=1)


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


# What is raised


def deadly(*_: Any) -> Any:
    raise DeadlyError


async def drained(bus: OutboxEventBus, *types: str) -> list[Event]:
    """Handle an event of each type, one after the other, and stop."""
    with anyio.fail_after(10):
        await bus.start()
        events = [await bus.emit(each) for each in types]
        await bus.drain()
        await bus.stop(timeout=0.1)
    return events


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UnspeakableError(), "odd: UnspeakableError (it cannot be written as text)"),
        (
            ExceptionGroup("several", [UnspeakableError()]),
            "odd: ExceptionGroup: several (1 sub-exception): UnspeakableError (it cannot be written as text)",
        ),
        (
            ExceptionGroup("several", [ConnectionError("bank refused"), KeyError("order")]),
            "odd: ExceptionGroup: several (2 sub-exceptions): ConnectionError: bank refused; KeyError: 'order'",
        ),
        (DeadlyError("enough"), "odd: DeadlyError: enough"),
    ],
)
async def test_exception_of_any_kind_costs_one_attempt(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any], error: BaseException, text: str
) -> None:
    @bus.on("order.placed", name="odd")
    async def odd(event: Event) -> None:
        raise error

    @bus.on("next")
    async def following(event: Event) -> None: ...

    event, following_event = await drained(bus, "order.placed", "next")
    assert (outbox.status_of(event.id), outbox.status_of(following_event.id)) == (FAILED, COMPLETED)
    assert [failed.last_error for failed in await bus.get_failed_events()] == [text]
    assert [type(told) for told in errors] == [HandlerError] * 2
    assert errors[0].__cause__ is error


async def test_observer_that_raises_a_base_exception_changes_nothing(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any]
) -> None:
    bus.add_observer(deadly)

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError

    events = await drained(bus, "order.placed", "order.placed")
    assert [outbox.status_of(event.id) for event in events] == [COMPLETED] * 2
    assert [type(error) for error in errors] == [HandlerError] * 2


async def test_backoff_that_raises_a_base_exception_delays_nothing(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any]
) -> None:
    @bus.on("order.placed", backoff=deadly)
    async def failing(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError

    siblings: list[str] = []

    @bus.on("order.placed")
    async def sibling(event: Event) -> None:
        siblings.append(event.id)

    events = await drained(bus, "order.placed", "order.placed")
    assert [outbox.status_of(event.id) for event in events] == [COMPLETED] * 2
    assert [type(error) for error in errors] == [HandlerError, WorkerError] * 2
    assert siblings == [event.id for event in events], "what had succeeded is not called again"


# Deliveries that are used after their handler, or twice at once


async def commits(delivery: Delivery) -> None:
    async with delivery.transaction() as tx:
        tx.put(TableName="accounts", Item={"id": "ada"})
        tx.emit("child")


async def emits(delivery: Delivery) -> None:
    await delivery.emit("child")


async def extends(delivery: Delivery) -> None:
    await delivery.extend(60)


@pytest.mark.parametrize("use", [commits, emits, extends])
async def test_delivery_is_refused_after_its_handler(
    bus: OutboxEventBus, outbox: ScriptedOutbox, use: Callable[[Delivery], Awaitable[None]]
) -> None:
    deliveries: list[Delivery] = []

    @bus.on("order.placed", name="hasty")
    async def hasty(event: Event, delivery: Delivery) -> None:
        deliveries.append(delivery)

    event = await bus.emit("order.placed")
    assert await bus.run_once() == 1
    with pytest.raises(UsageError, match="handler 'hasty' has ended, so that its delivery can do nothing more"):
        await use(deliveries[0])
    assert (outbox.committed, outbox.stored_ids) == ([], {event.id})


@pytest.mark.parametrize("use", [commits, emits, extends])
async def test_delivery_is_refused_in_tasks_that_a_handler_leaves_running(
    bus: OutboxEventBus, outbox: ScriptedOutbox, use: Callable[[Delivery], Awaitable[None]]
) -> None:
    left: list[asyncio.Future[None]] = []

    @bus.on("order.placed", name="hasty")
    async def hasty(event: Event, delivery: Delivery) -> None:
        left.append(asyncio.ensure_future(use(delivery)))

    event = await bus.emit("order.placed")
    assert await bus.run_once() == 1
    with pytest.raises(UsageError, match="handler 'hasty' has ended, so that its delivery can do nothing more"):
        await left[0]
    assert (outbox.committed, outbox.stored_ids) == ([], {event.id})


async def test_commit_that_a_handler_did_not_await_is_not_a_success(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    gate = outbox.pause("transact")
    left: list[asyncio.Future[None]] = []

    @bus.on("order.placed", name="hasty")
    async def hasty(event: Event, delivery: Delivery) -> None:
        left.append(asyncio.ensure_future(commits(delivery)))
        await asyncio.sleep(0)

    event = await bus.emit("order.placed")
    assert await bus.run_once() == 1
    gate.open()
    with pytest.raises(UsageError, match="handler 'hasty' ended before its transaction was answered"):
        await left[0]
    assert (outbox.committed, outbox.stored_ids) == ([], {event.id})


async def test_second_transaction_while_the_first_is_committed_is_refused(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    gate = outbox.pause("transact")
    told: list[Any] = []

    @bus.on("order.placed", name="twice")
    async def twice(event: Event, delivery: Delivery) -> None:
        first = asyncio.create_task(commits(delivery))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="handler 'twice' is already committing a transaction of this delivery"):
            await commits(delivery)
        gate.open()
        told.append(await first)

    await bus.emit("order.placed")
    with anyio.fail_after(5):
        assert await bus.run_once() == 1
    assert told == [None]
    assert len(outbox.committed) == 1


def is_child(call: Call) -> bool:
    """Whether a publish stores a child of the type "invoice.due"."""
    return [event.type for event in call.argument] == ["invoice.due"]


async def test_emit_that_is_repeated_in_one_attempt_is_the_same_child(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    outbox.fail("publish", LOST, after=True, nth=1, when=is_child)
    emitted: list[str] = []

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        with pytest.raises(UnavailableError):
            await delivery.emit("invoice.due")
        emitted.extend([(await delivery.emit("invoice.due")).id, (await delivery.emit("mail.sent")).id])

    event = await bus.emit("order.placed")
    assert await bus.run_once() == 1
    assert len(set(emitted)) == 2
    assert outbox.stored_ids == {event.id, *emitted}


async def test_emit_of_another_child_after_one_that_failed_is_not_taken_for_it(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    outbox.fail("publish", LOST, after=True, nth=1, when=is_child)

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        with pytest.raises(UnavailableError):
            await delivery.emit("invoice.due", {"n": 1})
        await delivery.emit("invoice.due", {"n": 2})
        await delivery.emit("mail.sent")

    await bus.emit("order.placed")
    assert await bus.run_once() == 1
    children = [claim.event for claim in await outbox.claim(9)]
    assert [(child.type, child.payload) for child in children] == [
        ("invoice.due", {"n": 1}),
        ("invoice.due", {"n": 2}),
        ("mail.sent", None),
    ]


@pytest.mark.parametrize(
    ("emit", "message"),
    [
        (
            lambda delivery: delivery.emit(Event("child")),
            "takes a type and a payload, not an Event.*call bus.emit",
        ),
        (lambda delivery: delivery.emit("child", metadata=[1]), r"metadata must be a mapping, not a list of 1"),
    ],
)
async def test_emit_of_what_is_not_a_child_is_refused(
    bus: OutboxEventBus, outbox: ScriptedOutbox, emit: Callable[[Any], Awaitable[Event]], message: str
) -> None:
    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        with pytest.raises(InvalidEventError, match=message):
            await emit(delivery)

    event = await bus.emit("order.placed")
    assert await bus.run_once() == 1
    assert outbox.status_of(event.id) is COMPLETED
    assert outbox.stored_ids == {event.id}


# Eager tasks


@pytest.fixture
async def eager_tasks() -> AsyncIterator[None]:
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    yield
    loop.set_task_factory(None)


@pytest.mark.usefixtures("eager_tasks")
@pytest.mark.parametrize("concurrency", [None, 1])
async def test_handlers_that_run_before_their_task_is_there_end_as_any_other(
    concurrency: int | None, errors: list[Any]
) -> None:
    outbox = outbox_of(errors.append)
    bus = OutboxEventBus(outbox)
    told = Counter[str]()
    bus.add_observer(lambda observation: told.update([observation.__class__.__name__]))

    async def handler(event: Event, delivery: Delivery) -> None:
        match event.type:
            case "fails":
                raise ValueError
            case "rejects":
                raise Reject("no use")
            case "asks" if delivery.attempt == 1:
                raise RetryLater(0)
            case "dies":
                raise DeadlyError
            case "hangs":
                await anyio.sleep_forever()
            case "emits":
                await delivery.emit("mail.sent")
            case "commits":
                async with delivery.transaction() as tx:
                    tx.emit("mail.sent")

    ways = ["returns", "fails", "rejects", "asks", "dies", "hangs", "emits", "commits"]
    for each in (*ways, "mail.sent"):
        bus.on(each, handler, concurrency=concurrency, timeout=0.02 if each == "hangs" else None)
    with anyio.fail_after(10):
        async with bus:
            events = await bus.emit_many([Event(way, id=way) for way in ways])
            await bus.drain()
    failed = {event.id for event in events if outbox.status_of(event.id) is FAILED}
    assert failed == {"fails", "rejects", "dies", "hangs"}
    assert await outbox.count(PENDING) == await outbox.count(PROCESSING) == 0
    assert not [error for error in errors if isinstance(error, WorkerError)]
    assert len(outbox.stored_ids) == len(ways) + 2
    assert {name: count for name, count in told.items() if name.startswith("Handler")} == {
        "HandlerStarted": 14,
        "HandlerSucceeded": 6,
        "HandlerFailed": 8,
    }


@pytest.mark.usefixtures("eager_tasks")
async def test_eager_handler_is_released_by_a_stop(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    began = anyio.Event()

    @bus.on("order.placed", concurrency=1)
    async def confirm(event: Event) -> None:
        began.set()
        await anyio.sleep_forever()

    with anyio.fail_after(5):
        async with bus:
            event = await bus.emit("order.placed")
            await began.wait()
            await bus.stop(timeout=0)
    assert (outbox.status_of(event.id), outbox.stored(event.id).retry_count) == (PENDING, 0)


@pytest.mark.usefixtures("eager_tasks")
async def test_eager_handler_that_emits_its_own_type_does_not_run_within_the_emit(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    depth, deepest = 0, 0

    @bus.on("step")
    async def step(event: Event, delivery: Delivery) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        if event.payload["left"]:
            await delivery.emit("step", {"left": event.payload["left"] - 1})
        depth -= 1

    with anyio.fail_after(10):
        async with bus:
            await bus.emit("step", {"left": 300})
            await bus.drain()
    assert len(outbox.stored_ids) == 301
    assert deepest < 20
