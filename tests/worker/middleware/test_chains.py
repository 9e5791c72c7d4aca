"""A chain of middleware that was started has to end before its middleware returns."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, HandlerError, InMemoryOutbox, MiddlewareError, OutboxEventBus
from dynamodb_outbox.middleware import CANCEL_SECONDS, run_chain

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


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
    event = await bus.emit("order.placed")
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
        await bus.emit("order.placed")
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
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert (handled, errors, outbox.status_of(event.id)) == ([event], [], COMPLETED)


async def test_handler_middleware_that_suppresses_an_error_makes_a_success(
    bus: OutboxEventBus, outbox: InMemoryOutbox, errors: list[Any]
) -> None:
    async def lenient(event: Event, call_next: Any) -> None:
        with contextlib.suppress(ZeroDivisionError):
            await call_next(event)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        raise ZeroDivisionError

    bus.add_handler_middleware(lenient)
    event = await bus.emit("order.placed")
    await bus.run_once()
    assert (outbox.status_of(event.id), errors) == (COMPLETED, [])


async def test_error_of_the_middleware_comes_before_what_it_left_unfinished(
    bus: OutboxEventBus, handled: list[Event], errors: list[Any]
) -> None:
    async def fails(event: Event, call_next: Any) -> None:
        call_next(event)
        raise ZeroDivisionError

    bus.add_handler_middleware(fails)
    await bus.emit("order.placed")
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
        await run_chain([plain, raises], Event("order.placed"), slow_to_end)
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
        await run_chain([raises], Event("order.placed"), goes_on)
    assert loop.time() - began == pytest.approx(CANCEL_SECONDS, abs=0.1)
    await asyncio.wait(rest)


async def test_closed_chain_does_not_wait_for_its_rest() -> None:
    """A coroutine that is thrown away cannot wait for anything."""

    async def waits(event: Event, call_next: Any) -> None:
        rest.append(asyncio.create_task(call_next(event)))
        await asyncio.sleep(3600)

    async def end(event: Event) -> None:
        await asyncio.sleep(3600)

    rest: list[asyncio.Task[None]] = []
    chain = run_chain([waits], Event("order.placed"), end)
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

    @bus.on("order.placed", max_retries=2)
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
    event = await bus.emit("order.placed")
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
    await bus.emit("order.placed")
    await bus.run_once()
    await asyncio.wait(late)
    await asyncio.sleep(1)
    with pytest.raises(MiddlewareError, match=r"goes_on_later' called call_next after it had returned"):
        late[0].result()
    assert handled == []
