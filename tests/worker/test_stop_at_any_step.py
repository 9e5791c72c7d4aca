"""`async with bus` that is cancelled at any step of its end: it is left when nothing of the worker is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, HandlerStuckError, InMemoryOutbox, OutboxEventBus, UsageError
from tests.fakes import ScriptedOutbox
from tests.virtual_time import VirtualTime

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@pytest.fixture(autouse=True)
async def without_debug_mode(debug_mode: None) -> None:
    """Each test makes many workers, and would take five times as long."""
    asyncio.get_running_loop().set_debug(False)


Arm = Callable[[], None]
Body = Callable[[Arm], Awaitable[None]]


async def give_way() -> None:
    """Let other tasks run three times, as a request does."""
    for _ in range(3):
        await asyncio.sleep(0)


def yielding_outbox(**options: Any) -> ScriptedOutbox:
    """An outbox that gives way in its calls, and in the writing of its claims and outcomes once more."""
    outbox = ScriptedOutbox(**options)
    for operation in ("claim", "recover", "settle"):
        outbox.script(operation, give_way)
    for operation in ("claim", "settle"):
        outbox.script(operation, give_way, after=True)
    return outbox


def after(steps: int, call: Callable[[], object]) -> None:
    """Call a function after so many iterations of the loop; no time passes meanwhile."""
    if steps == 0:
        call()
    else:
        asyncio.get_running_loop().call_soon(after, steps - 1, call)


# Ways to cancel. Each runs the body, which arms it, and tells whether the cancellation came in time.


def natively(times: int) -> Callable[[Body, int], Coroutine[Any, Any, bool]]:
    async def run(body: Body, steps: int) -> bool:
        def arm() -> None:
            for n in range(times):
                after(steps + 2 * n, task.cancel)

        async def main() -> None:
            await body(arm)

        task = asyncio.create_task(main())
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return task.cancelled()

    return run


async def by_a_timeout(body: Body, steps: int) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:

            def expire() -> None:
                if limit.when() is None:
                    with suppress(RuntimeError):  # it has been left
                        limit.reschedule(loop.time())

            await body(lambda: after(steps, expire))
    except TimeoutError:
        return True
    return False


async def by_a_task_group(body: Body, steps: int) -> bool:
    failing, reached = asyncio.Event(), False
    task = asyncio.current_task()
    assert task is not None

    async def fail() -> None:
        await failing.wait()
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            sibling = group.create_task(fail())
            try:
                await body(lambda: after(steps, failing.set))
            except asyncio.CancelledError:
                reached = True
                raise
            sibling.cancel()
    except* ValueError:
        pass
    if not reached:
        # CPython 3.11 and 3.12 leave a count behind when a task fails while its group is being left.
        while task.cancelling():
            task.uncancel()
    return reached


async def by_a_scope(body: Body, steps: int) -> bool:
    with anyio.CancelScope() as scope:
        await body(lambda: after(steps, scope.cancel))
    return scope.cancelled_caught


WAYS = [natively(1), natively(2), natively(3), by_a_timeout, by_a_task_group, by_a_scope]
each_way = pytest.mark.parametrize(
    "way", WAYS, ids=["cancel", "two cancels", "three cancels", "timeout", "task group", "scope"]
)


async def sleeps(event: Event) -> None:
    await asyncio.sleep(3600)


async def cleans_up(event: Event) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.5)


async def ends_soon(event: Event) -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.mark.parametrize("handler", [sleeps, cleans_up, ends_soon])
@each_way
async def test_block_that_is_cancelled_at_any_step_of_its_end_leaves_no_worker(
    way: Callable[[Body, int], Coroutine[Any, Any, bool]], handler: Any, virtual_time: VirtualTime
) -> None:
    task = asyncio.current_task()
    assert task is not None
    before = asyncio.all_tasks()
    cancelled = 0
    for steps in range(25):
        outbox = yielding_outbox(poll_interval=0.5)
        errors: list[Any] = []
        bus = OutboxEventBus(outbox, on_error=errors.append)
        bus.on("order.placed", handler)

        async def body(arm: Arm, bus: OutboxEventBus = bus) -> None:
            async with bus:
                for n in range(3):
                    await bus.emit("order.placed", id=f"e{n}")
                await asyncio.sleep(0)
                arm()

        started = virtual_time.time()
        in_time = await way(body, steps)
        cancelled += in_time
        assert asyncio.all_tasks() == before, steps
        assert (bus.running, task.cancelling()) == (False, 0), steps
        if in_time:
            # The handlers are released, and not waited for until their leases end.
            assert virtual_time.time() - started < 5, steps
        assert PROCESSING not in {outbox.status_of(f"e{n}") for n in range(3)}, steps
        calls = outbox.count_of("claim", "recover", "settle")
        await asyncio.sleep(60)
        assert (outbox.count_of("claim", "recover", "settle"), errors) == (calls, []), steps
        if not in_time:
            break
    # A handler that sleeps would hold up an end that nothing cancels until its lease ends.
    assert (cancelled > 8) if handler is ends_soon else (cancelled == 25)
    assert steps == cancelled or handler is not ends_soon


@each_way
async def test_block_that_is_cancelled_at_any_step_of_its_start_leaves_no_worker(
    way: Callable[[Body, int], Coroutine[Any, Any, bool]],
) -> None:
    before = asyncio.all_tasks()
    for steps in range(20):
        outbox = yielding_outbox(poll_interval=0.5)
        bus = OutboxEventBus(outbox)

        async def body(arm: Arm, bus: OutboxEventBus = bus) -> None:
            arm()
            async with bus:
                pass

        in_time = await way(body, steps)
        assert asyncio.all_tasks() == before, steps
        assert not bus.running
        calls = outbox.count_of("claim", "recover", "settle")
        await asyncio.sleep(60)
        assert outbox.count_of("claim", "recover", "settle") == calls
        if not in_time:
            break
    assert steps > 0


@each_way
async def test_run_once_that_is_cancelled_at_any_step_leaves_nothing_claimed(
    way: Callable[[Body, int], Coroutine[Any, Any, bool]],
) -> None:
    before = asyncio.all_tasks()
    for steps in range(60):
        outbox = yielding_outbox()
        bus = OutboxEventBus(outbox)
        bus.on("order.placed", ends_soon)
        await bus.emit("order.placed", id="e")

        async def body(arm: Arm, bus: OutboxEventBus = bus) -> None:
            arm()
            await bus.run_once()

        in_time = await way(body, steps)
        assert asyncio.all_tasks() == before, steps
        assert outbox.status_of("e") in (PENDING, COMPLETED)
        if not in_time:
            break
    assert steps > 10


@each_way
async def test_handler_that_does_not_end_holds_up_a_cancelled_block_for_the_grace_only(
    way: Callable[[Body, int], Coroutine[Any, Any, bool]], virtual_time: VirtualTime
) -> None:
    before = asyncio.all_tasks()
    outbox = yielding_outbox(poll_interval=0.5)
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    end = asyncio.Event()

    @bus.on("order.placed", timeout=600)
    async def stubborn(event: Event) -> None:
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()

    async def body(arm: Arm) -> None:
        async with bus:
            await bus.emit("order.placed", id="e")
            await asyncio.sleep(0)
            arm()

    started = virtual_time.time()
    assert await way(body, 8)
    assert virtual_time.time() - started < 20
    assert [type(error) for error in errors] == [HandlerStuckError]
    assert outbox.status_of("e") is PENDING
    (left,) = asyncio.all_tasks() - before
    assert left.get_name().startswith("test_handler_that_does_not_end")
    end.set()
    await asyncio.wait([left])


async def test_cancelled_wait_for_a_stop_lets_the_drain_go_on() -> None:
    outbox = yielding_outbox(poll_interval=0.5)
    bus = OutboxEventBus(outbox)
    ended: list[str] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        await asyncio.sleep(5)
        ended.append(event.id)

    await bus.start()
    await bus.emit("order.placed", id="e")
    stop = asyncio.create_task(bus.stop())
    await asyncio.sleep(1)
    stop.cancel()
    await asyncio.wait([stop])
    assert (bus.running, ended) == (False, [])
    await bus.stop()
    assert ended == ["e"]
    assert outbox.status_of("e") is COMPLETED


# Calls from inside of a handler that would wait for the handler itself


async def directly(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    await call()


async def in_a_task(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    await asyncio.create_task(call())


async def in_a_group(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(call)


@pytest.mark.parametrize("runs", ["worker", "run_once"])
@pytest.mark.parametrize("inside", [directly, in_a_task, in_a_group])
@pytest.mark.parametrize("waiting", ["drain", "run_once"])
async def test_handler_that_would_wait_for_itself_gets_an_error(waiting: str, inside: Any, runs: str) -> None:
    outbox = InMemoryOutbox(poll_interval=0.5)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    raised: list[BaseException] = []

    @bus.on("order.placed", concurrency=1)
    async def confirm(event: Event) -> None:
        try:
            await inside(getattr(bus, waiting))
        except* UsageError as error:
            raised.extend(error.exceptions)

    await bus.emit_many([Event("order.placed", id="first"), Event("order.placed", id="second")])
    with anyio.fail_after(10):
        if runs == "run_once":
            await bus.run_once()
        else:
            async with bus:
                await bus.drain()
    assert len(raised) == 2
    assert f"bus.{waiting}() was called inside a handler" in str(raised[0])
    assert outbox.status_of("first") is outbox.status_of("second") is COMPLETED


async def test_handler_may_drain_another_bus() -> None:
    other = OutboxEventBus(InMemoryOutbox(poll_interval=0.5))
    other.on("invoice.due", ends_soon)
    outbox = InMemoryOutbox(poll_interval=0.5)
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        async with other:
            await other.emit("invoice.due")
            await other.drain(5)

    async with bus:
        await bus.emit("order.placed", id="e")
        await bus.drain(10)
    assert outbox.status_of("e") is COMPLETED


async def test_stop_waits_a_second_for_the_withdrawal_after_the_last_settle() -> None:
    outbox = ScriptedOutbox()
    processing: list[int] = []

    async def never_answer() -> None:
        processing.append(await outbox.count(PROCESSING))
        await anyio.sleep_forever()

    outbox.script("retire", never_answer)
    bus = OutboxEventBus(outbox)
    began, end = anyio.Event(), anyio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        began.set()
        await end.wait()

    await bus.start()
    await bus.emit("order.placed")
    await began.wait()
    asyncio.get_running_loop().call_later(5, end.set)
    begin = anyio.current_time()
    await bus.stop(timeout=60)
    assert anyio.current_time() - begin == pytest.approx(6.0, abs=0.1)
    assert processing == [0]
    assert await bus.run_once() == 0
    assert len(processing) == 1
