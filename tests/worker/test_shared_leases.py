"""Leases that the adapter renews for many claims at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    EventStatus,
    HandlerTimeoutError,
    OutboxEventBus,
    WorkerError,
)
from dynamodb_outbox.observers import EventReleased, HandlerCancelled, LeaseLost
from tests.sharing import LEASE, LOST, MARGIN, Handler, SharingOutbox, now

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@pytest.fixture
async def outbox(errors: list[Any]) -> SharingOutbox:
    return SharingOutbox(on_error=errors.append)


@pytest.fixture
def bus(outbox: SharingOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


@pytest.fixture
def told(bus: OutboxEventBus) -> list[Any]:
    """What the observers of the bus were told."""
    observations: list[Any] = []
    bus.add_observer(observations.append)
    return observations


async def test_handler_with_a_timeout_outlasts_the_lease_without_a_write(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    ends: list[float] = []

    @bus.on("video.uploaded", timeout=100)
    async def transcode(event: Event, delivery: Delivery) -> None:
        for _ in range(4):
            ends.append(delivery.lease_expires_at - outbox.options.clock())
            await anyio.sleep(LEASE)

    async with bus:
        event = await bus.emit("video.uploaded")
        await bus.drain()
    assert len(ends) == 4
    assert min(ends) > LEASE * 2 / 3 - 0.01
    assert (outbox.count_of("renew"), errors) == (0, [])
    assert outbox.status_of(event.id) is COMPLETED


@pytest.mark.parametrize("age", [0.0, 1.9])
async def test_handler_without_a_timeout_gets_one_whole_lease(
    age: float, outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(100), max_retries=0)
    async with bus:
        await anyio.sleep(age)
        event = await bus.emit("video.uploaded")
        await anyio.sleep(3 * LEASE)
    assert handler.ends == [("cancelled", LEASE - MARGIN)]
    assert [type(error) for error in errors] == [HandlerTimeoutError]
    assert (outbox.status_of(event.id), outbox.count_of("renew")) == (FAILED, 0)


@pytest.mark.parametrize("age", [0.0, 1.9])
async def test_event_waits_half_a_lease_for_a_permit(age: float, bus: OutboxEventBus, told: list[Any]) -> None:
    bus.on("video.uploaded", Handler(10), timeout=60, concurrency=1)
    async with bus:
        await anyio.sleep(age)
        await bus.emit("video.uploaded")
        second = await bus.emit("video.uploaded")
        start = now()
        while not any(isinstance(fact, EventReleased) and fact.event_id == second.id for fact in told):
            await anyio.sleep(0.01)
        assert now() - start == pytest.approx(LEASE / 2, abs=0.02)


async def test_handler_that_waited_for_its_permit_gets_the_rest_of_one_lease(
    bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(100), concurrency=1, max_retries=0)
    async with bus:
        await bus.emit("video.uploaded")
        await anyio.sleep(LEASE - MARGIN - 1.5)
        await bus.emit("video.uploaded")
        await anyio.sleep(2 * LEASE)
    assert handler.ends == [("cancelled", LEASE - MARGIN), ("cancelled", LEASE - MARGIN - 1.5)]


async def test_lost_lease_cancels_the_handlers_and_is_reported_once(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(100), timeout=200)
    async with bus:
        events = [await bus.emit("video.uploaded") for _ in range(3)]
        await anyio.sleep(1)
        outbox.lose()
        await anyio.sleep(0.1)
        assert handler.ends == [("cancelled", 1.0)] * 3
        assert outbox.count_of("settle") == 0
        assert {outbox.status_of(event.id) for event in events} == {PROCESSING}
        handler.seconds = 1
        for event in events:
            await outbox.enter(event)
        await bus.drain()
    assert errors == [LOST]
    kinds = [type(fact) for fact in told if isinstance(fact, (LeaseLost, HandlerCancelled))]
    assert sorted(kind.__name__ for kind in kinds) == ["HandlerCancelled"] * 3 + ["LeaseLost"] * 3
    assert handler.attempts == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("is_taken", [False, True])
async def test_late_success_is_settled_although_the_lease_is_lost(
    is_taken: bool, outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    @bus.on("video.uploaded", timeout=100)
    async def transcode(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            with suppress(asyncio.CancelledError):
                await anyio.sleep(60)

    async with bus:
        event = await bus.emit("video.uploaded")
        await anyio.sleep(1)
        if is_taken:
            await outbox.enter(event)
            (_,) = await outbox.claim(1)
        outbox.lose()
        await anyio.sleep(0.1)
        assert outbox.status_of(event.id) is (PROCESSING if is_taken else COMPLETED)
    assert outbox.count_of("settle") == 1
    # The success of an event that another worker holds is refused. The adapter has reported the loss already.
    assert errors == [LOST]
    assert [type(fact) for fact in told if isinstance(fact, LeaseLost)] == [LeaseLost] * is_taken


async def test_completed_event_does_not_mind_the_loss(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    ended: list[str] = []

    @bus.on("video.uploaded", timeout=100)
    async def transcode(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction():
            pass
        await anyio.sleep(2 * LEASE)
        ended.append("in its own time")

    async with bus:
        await bus.emit("video.uploaded")
        await anyio.sleep(1)
        outbox.lose()
        await bus.drain()
    assert (ended, errors) == (["in its own time"], [LOST])


async def test_ended_attempts_leave_the_lease(outbox: SharingOutbox, bus: OutboxEventBus) -> None:
    bus.on("video.uploaded", Handler(0.1), max_retries=0)
    async with bus:
        for _ in range(3):
            await bus.emit("video.uploaded")
        await bus.drain()
        assert outbox.lease._members == {}


@pytest.mark.parametrize("timeout", [None, 100.0])
async def test_lease_that_is_not_renewed_cancels_the_handlers_before_its_end(
    timeout: float | None, outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(100), timeout=timeout)
    async with bus:
        outbox.is_renewing = False
        await anyio.sleep(2)
        event = await bus.emit("video.uploaded")
        await anyio.sleep(LEASE - 2)
        assert handler.ends == [("cancelled", LEASE - MARGIN - 2)]
        stored = outbox.stored(event.id)
        if timeout is None:
            # The handler has had less time than its limit, so no attempt is counted.
            assert (stored.status, stored.retry_count, errors) == (PENDING, 0, [])
        else:
            assert stored.retry_count == 1
            assert [type(error) for error in errors] == [HandlerTimeoutError]


async def test_leases_are_kept_from_the_start_until_the_last_outcome_is_written(
    outbox: SharingOutbox, bus: OutboxEventBus
) -> None:
    bus.on("video.uploaded", Handler(100), timeout=200)
    gate = outbox.pause("settle")
    await bus.start()
    await bus.emit("video.uploaded")
    await anyio.sleep(1)
    async with anyio.create_task_group() as group:
        group.start_soon(bus.stop)
        await anyio.sleep(2 * LEASE)
        assert outbox.steps == ["keep"]
        group.start_soon(lambda: bus.stop(timeout=0))
        await gate.reached.wait()
        await anyio.sleep(1)
        assert outbox.steps == ["keep"]
        gate.open()
    assert outbox.steps == ["keep", "settled", "kept", "retire"]


async def test_leases_are_kept_while_a_cancelled_worker_writes_its_outcomes(
    outbox: SharingOutbox, bus: OutboxEventBus
) -> None:
    bus.on("video.uploaded", Handler(100), timeout=200)
    gate = outbox.pause("settle")

    await bus.start()
    await bus.emit("video.uploaded")
    await anyio.sleep(1)
    (worker,) = (task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker")
    worker.cancel()
    await gate.reached.wait()
    await anyio.sleep(1)
    assert outbox.steps == ["keep"]
    gate.open()
    await asyncio.wait([worker])
    assert outbox.steps == ["keep", "settled", "kept"]


async def test_errors_of_keep_leases_are_reported_and_the_worker_goes_on(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    outbox.raising = [ValueError("a"), asyncio.CancelledError()]
    bus.on("video.uploaded", handler := Handler(2 * LEASE), timeout=100)
    async with bus:
        await bus.emit("video.uploaded")
        await bus.drain()
    assert handler.ends == [("returned", 2 * LEASE)]
    assert [(type(error), error.loop) for error in errors] == [(WorkerError, "renewal")] * 2
    assert [type(error.__cause__) for error in errors] == [ValueError, asyncio.CancelledError]
    assert outbox.steps.count("keep") == 3


async def test_run_once_keeps_no_leases(outbox: SharingOutbox, bus: OutboxEventBus) -> None:
    bus.on("video.uploaded", Handler(0))
    await bus.emit("video.uploaded")
    assert await bus.run_once() == 1
    assert outbox.steps == ["settled"]


@pytest.mark.parametrize("what", ["fresh", "lost", "nearly over"])
async def test_late_acknowledgement_releases_the_event(
    what: str, outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any], told: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(0))
    gate = outbox.pause("publish", after=True)
    async with bus:
        emit = asyncio.create_task(bus.emit("video.uploaded"))
        await gate.reached.wait()
        match what:
            case "lost":
                outbox.lose()
            case "nearly over":
                outbox.is_renewing = False
                await anyio.sleep(LEASE * 0.6)
        gate.open()
        event = await emit
        await anyio.sleep(0.1)
        assert handler.attempts == ([1] if what == "fresh" else [])
        assert outbox.status_of(event.id) is (COMPLETED if what == "fresh" else PENDING)
        await bus.drain()
    assert handler.attempts == [1]
    assert errors == ([LOST] if what == "lost" else [])


async def test_late_acknowledgement_of_an_event_that_was_recovered_is_not_reported(
    outbox: SharingOutbox, bus: OutboxEventBus, errors: list[Any]
) -> None:
    bus.on("video.uploaded", handler := Handler(0))
    gate = outbox.pause("publish", after=True)
    event = Event("video.uploaded")
    async with bus:
        emit = asyncio.create_task(bus.emit(event))
        await gate.reached.wait()
        await outbox.enter(event)
        outbox.lose()
        gate.open()
        await emit
        await anyio.sleep(0.1)
        outbox.stored(event.id).sort_key = 0
        await bus.drain()
    assert (handler.attempts, errors) == ([2], [LOST])
