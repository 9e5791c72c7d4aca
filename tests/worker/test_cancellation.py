"""Cancellations and stops at any moment: claims are released, no worker ends unasked, no stop hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    OutboxEventBus,
    Reject,
    RetryLater,
    SettleError,
    UsageError,
    WorkerError,
)
from dynamodb_outbox.observers import EventCompleted, EventReleased, HandlerCancelled, HandlerFailed, LeaseLost
from dynamodb_outbox.worker.dispatch import Dispatcher
from dynamodb_outbox.worker.timing import Timing
from tests.fakes import ScriptedOutbox, found_an_event
from tests.timing import set_timing

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


async def test_release_remembers_which_handlers_had_succeeded() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    ran: list[str] = []
    began = anyio.Event()

    @bus.on("order.placed")
    async def quick(event: Event) -> None:
        ran.append("quick")

    @bus.on("order.placed")
    async def slow(event: Event) -> None:
        ran.append("slow")
        began.set()
        await anyio.sleep(0.1 if ran.count("slow") > 1 else 60)

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    await bus.stop(timeout=0)
    assert outbox.status_of(event.id) is PENDING
    async with bus:
        await bus.drain(5)
    assert ran == ["quick", "slow", "slow"]
    assert outbox.stored(event.id).retry_count == 0


async def test_handler_that_turns_its_cancellation_into_an_error_is_released_all_the_same() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    began = anyio.Event()

    @bus.on("order.placed")
    async def stubborn(event: Event) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    await bus.stop(timeout=0)
    assert (outbox.status_of(event.id), outbox.stored(event.id).retry_count) == (PENDING, 0)


async def test_stop_does_not_wait_for_a_reporter_that_never_ends() -> None:
    before = asyncio.all_tasks()
    told = anyio.Event()

    async def hang(error: Any) -> None:
        told.set()
        await anyio.sleep_forever()

    bus = OutboxEventBus(ScriptedOutbox(poll_interval=0.01), on_error=hang)
    set_timing(bus, report_seconds=0.05)
    with anyio.fail_after(5):
        await bus.start()
        await bus.emit("nobody handles this")
        await told.wait()
        await bus.stop(timeout=0.1)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("where", ["handler", "on_error"])
async def test_stop_from_inside_asks_and_does_not_wait_for_itself(where: str) -> None:
    before = asyncio.all_tasks()
    outbox = ScriptedOutbox(poll_interval=0.01)
    asked = anyio.Event()

    async def stop(_: Any) -> None:
        await bus.stop()
        asked.set()

    async def fail(event: Event) -> None:
        raise ValueError

    bus = OutboxEventBus(outbox, on_error=stop)
    bus.on("order.placed", stop if where == "handler" else fail)
    with anyio.fail_after(5):
        await bus.start()
        event = await bus.emit("order.placed")
        await asked.wait()
        await bus.stop()
    assert asyncio.all_tasks() == before
    assert not bus.running
    assert outbox.status_of(event.id) is (COMPLETED if where == "handler" else PENDING)


async def test_cancelled_start_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    bus = OutboxEventBus(ScriptedOutbox())
    with anyio.move_on_after(0):
        await bus.start()
    assert asyncio.all_tasks() == before
    assert not bus.running
    async with bus:
        assert bus.running


async def test_worker_that_was_cancelled_is_reported_and_can_be_started_again() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    await bus.start()
    (owner,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    owner.cancel()
    await asyncio.wait([owner])
    assert not bus.running
    (error,) = errors
    assert isinstance(error, WorkerError)
    assert error.ended
    await bus.start()
    with pytest.raises(UsageError):
        await bus.start()
    await bus.stop()


async def test_worker_that_is_cancelled_stops_polling_though_there_is_a_backlog() -> None:
    # A full page is followed by the next at once, and no cancellation reaches a claim under way: what is claimed then
    # is released, is due again, and is the next page.
    outbox = ScriptedOutbox(poll_interval=60, batch_size=1, concurrency=100)
    outbox.delay("claim", 0.001)
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        await asyncio.sleep(3600)

    await bus.emit_many([Event("order.placed") for _ in range(50)])
    await bus.start()
    await outbox.called("claim")
    (owner,) = (task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker")
    owner.cancel()
    stop = asyncio.create_task(bus.stop())
    while not stop.done() and outbox.count_of("claim") < 20:
        await asyncio.sleep(0.001)
    assert outbox.count_of("claim") < 20
    await stop
    assert await outbox.count(PENDING) == 50


async def test_cancelling_every_task_leaves_no_event_leased() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    begun = anyio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        begun.set()
        await asyncio.sleep(3600)

    await bus.start()
    event = await bus.emit("order.placed")
    await begun.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with anyio.fail_after(5):
        await bus.stop()
    assert outbox.status_of(event.id) is PENDING
    assert outbox.stored(event.id).retry_count == 0


async def test_stop_that_waits_for_settles_may_be_shortened() -> None:
    errors: list[Any] = []
    outbox = ScriptedOutbox(poll_interval=0.01, on_error=errors.append)
    outbox.pause("settle")
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        pass

    await bus.start()
    event = await bus.emit("order.placed")
    await anyio.sleep(0.1)
    stop = asyncio.create_task(bus.stop())
    await anyio.sleep(100)
    assert not stop.done()
    with anyio.fail_after(Timing().settle_seconds + 1):
        await bus.stop(0)
    await stop
    assert [(type(error), error.event_id) for error in errors] == [(SettleError, event.id)]


@pytest.mark.parametrize("answered", [True, False])
async def test_claim_in_flight_at_the_deadline_of_a_stop_is_released(
    answered: bool,
) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    gate = outbox.pause("claim", after=True, when=found_an_event)
    bus = OutboxEventBus(outbox)
    set_timing(bus, claim_seconds=5 if answered else 0.01)
    await bus.start()
    event = await bus.emit("order.placed")
    await gate.reached.wait()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(bus.stop, 0)
            await anyio.sleep(0.05)
            gate.open()
    assert outbox.status_of(event.id) is (PENDING if answered else PROCESSING)
    assert outbox.stored(event.id).retry_count == 0


@pytest.mark.parametrize("steps", range(8))
async def test_second_commit_of_a_delivery_is_refused_in_every_moment_of_the_first(steps: int) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    gate = outbox.pause("transact", after=True)
    bus = OutboxEventBus(outbox)
    results: list[Any] = []

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        async def commit(number: int) -> None:
            async with delivery.transaction() as tx:
                tx.put(TableName="business", Item={"id": f"{number}"})

        first = asyncio.create_task(commit(1))
        await asyncio.sleep(0.01)
        gate.open()
        for _ in range(steps):
            await asyncio.sleep(0)
        results.extend(await asyncio.gather(first, commit(2), return_exceptions=True))

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert results[0] is None
    assert isinstance(results[1], UsageError)
    assert len(outbox.committed) == 1


async def test_second_commit_is_refused_though_the_handler_goes_on_after_the_first() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    refused: list[Exception] = []

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        for number in range(2):
            try:
                async with delivery.transaction() as tx:
                    tx.put(TableName="business", Item={"id": f"{number}"})
            except UsageError as error:
                refused.append(error)
        raise ValueError

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(5)
    assert len(refused) == len(outbox.committed) == 1


async def test_commit_counts_though_a_stop_cancels_the_handler_meanwhile() -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    gate = outbox.pause("transact", after=True)
    errors: list[Any] = []
    told: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.add_observer(told.append)
    began = anyio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event, delivery: Delivery) -> None:
        began.set()
        async with delivery.transaction() as tx:
            tx.put(TableName="accounts", Item={"id": "ada"})

    with anyio.fail_after(5):
        await bus.start()
        event = await bus.emit("order.placed")
        await began.wait()
        while outbox.status_of(event.id) is not COMPLETED:
            await anyio.sleep(0.001)
        stopping = asyncio.create_task(bus.stop(timeout=0))
        while not any(attempt.tasks[0]._cancel_reason for attempt in dispatcher_of(bus)._attempts):
            await anyio.sleep(0.001)
        gate.open()
        await stopping
    assert (outbox.status_of(event.id), errors) == (COMPLETED, [])
    assert {LeaseLost, HandlerCancelled, HandlerFailed, EventReleased}.isdisjoint(map(type, told))
    assert EventCompleted in map(type, told)


def dispatcher_of(bus: OutboxEventBus) -> Dispatcher:
    assert bus._lifecycle.worker is not None
    return bus._lifecycle.worker._dispatcher


@pytest.mark.parametrize(
    ("error", "status", "retries"),
    [(Reject("no"), FAILED, 0), (RetryLater(60), PENDING, 1), (ValueError(), PENDING, 1), (None, COMPLETED, 0)],
)
async def test_what_a_handler_said_counts_though_the_stop_comes_at_once(
    error: Exception | None, status: EventStatus, retries: int
) -> None:
    outbox = ScriptedOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    began, end = asyncio.Event(), asyncio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        began.set()
        await end.wait()
        if error is not None:
            raise error

    await bus.start()
    event = await bus.emit("order.placed")
    await began.wait()
    dispatcher = dispatcher_of(bus)
    ((task,),) = [attempt.tasks for attempt in dispatcher._attempts]
    end.set()
    await asyncio.sleep(0)
    assert task._task.done()
    assert not task.is_done, "its result comes in the next iteration of the loop"
    dispatcher.release_all()
    await bus.stop(timeout=0)
    assert (outbox.status_of(event.id), outbox.stored(event.id).retry_count) == (status, retries)
