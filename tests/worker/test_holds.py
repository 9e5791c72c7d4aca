"""No worker starts an event whose type is held; a resume, or the end of a hold, lets it go on."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus, UnavailableError
from dynamodb_outbox.observers import EventReleased
from dynamodb_outbox.port import LEASE_EXPIRED
from dynamodb_outbox.worker.timing import Timing
from tests.fakes import ScriptedOutbox
from tests.virtual_time import VirtualTime

PENDING, PROCESSING, COMPLETED, FAILED, HELD, DISCARDED, *_ = EventStatus
DOWN = UnavailableError(operation="batch_get_item", attempts=1, reason="down", maybe_applied=False)
READ_EVERY = Timing().holds_seconds


@pytest.fixture
def outbox() -> ScriptedOutbox:
    """An outbox that polls ten times a second."""
    return ScriptedOutbox(poll_interval=0.1, base_backoff=0.01)


@pytest.fixture
def handled(bus: OutboxEventBus) -> list[str]:
    """The ids of the events that were handled, of the types `order` and `refund`."""
    ids: list[str] = []

    async def handle(event: Event) -> None:
        ids.append(event.id)

    bus.subscribe(["order", "refund"], handle)
    return ids


async def emit(bus: OutboxEventBus, event_id: str, *, type: str = "refund", **options: Any) -> None:
    await bus.emit(type, id=event_id, **options)


# Types


async def test_event_of_a_held_type_is_held_and_resumed(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "r")
        await emit(bus, "o", type="order")
        await anyio.sleep(1)
        assert (handled, outbox.status_of("r"), outbox.stored("r").retry_count) == (["o"], HELD, 0)
        await anyio.sleep(100)
        assert handled == ["o"]
        assert await bus.resume("refund") == 1
        await anyio.sleep(1)
    assert (handled, outbox.status_of("r")) == (["o", "r"], COMPLETED)


async def test_hold_of_the_same_bus_is_obeyed_at_once(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    async with bus:
        await emit(bus, "before")
        await anyio.sleep(0.1)
        await bus.hold("refund", reason="the bank is down", by="ada")
        await emit(bus, "after")
        await anyio.sleep(0.1)
    assert (handled, outbox.status_of("after")) == (["before"], HELD)


async def test_hold_and_resume_by_another_process_are_obeyed_within_five_seconds(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    async with bus:
        await emit(bus, "before")
        await anyio.sleep(0.1)
        await outbox.hold("refund", reason="the bank is down", by="ada")
        await anyio.sleep(READ_EVERY)
        for number in range(20):
            await emit(bus, f"after{number}")
            await anyio.sleep(0.5)
        assert handled == ["before"]
        assert await outbox.count(HELD) == 20
        await outbox.resume("refund")
        await anyio.sleep(READ_EVERY + 1)
    assert len(handled) == 21


async def test_busy_worker_obeys_a_hold_within_five_seconds(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    async with bus:
        for number in range(100):
            await emit(bus, f"e{number}")
            await anyio.sleep(0.1)
            if number == 42:
                await outbox.hold("refund", reason="the bank is down", by="ada")
    assert 43 <= len(handled) <= 43 + READ_EVERY / 0.1 + 1


async def test_events_of_a_held_type_are_not_claimed_on_emit(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "first")
        await anyio.sleep(1)
        await bus.emit_many([Event("refund", id="second"), Event("order", id="o")])
        await anyio.sleep(1)
    assert outbox.claimed_on_emit == [1, 1]
    assert (handled, outbox.status_of("second")) == (["o"], HELD)


async def test_event_without_a_handler_here_is_held_too(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "r")
        await anyio.sleep(1)
    assert outbox.status_of("r") is HELD


async def test_running_handler_finishes_and_a_retry_is_held(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    attempts: list[int] = []

    @bus.on("refund")
    async def refund(event: Event) -> None:
        attempts.append(len(attempts) + 1)
        await anyio.sleep(10)
        raise ValueError("no luck")

    async with bus:
        await emit(bus, "r")
        await anyio.sleep(1)
        await bus.hold("refund", reason="the bank is down", by="ada")
        await anyio.sleep(20)
        assert (attempts, outbox.status_of("r"), outbox.stored("r").retry_count) == ([1], HELD, 1)


async def test_due_time_survives_a_hold(bus: OutboxEventBus, outbox: ScriptedOutbox, virtual_time: VirtualTime) -> None:
    await bus.hold("refund", reason="the bank is down", by="ada")
    due = virtual_time.clock() + 3
    async with bus:
        await emit(bus, "r", delay=3)
        await anyio.sleep(10)
    assert outbox.stored("r").sort_key == round(due * 1000)


async def test_hold_that_has_expired_ends_by_itself(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str], virtual_time: VirtualTime
) -> None:
    until = datetime.fromtimestamp(virtual_time.clock() + 60, UTC)
    await bus.hold("refund", reason="deploy", until=until, by="ada")
    async with bus:
        await emit(bus, "r")
        await anyio.sleep(59)
        assert (handled, outbox.status_of("r")) == ([], HELD)
        await anyio.sleep(2)
    assert handled == ["r"]


async def test_observers_see_that_an_event_is_held(bus: OutboxEventBus, handled: list[str]) -> None:
    seen: list[Any] = []
    bus.add_observer(seen.append)
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "r")
        await anyio.sleep(1)
    assert EventReleased(event_id="r", event_type="refund", attempt=1, held=True) in seen


# All types


async def test_nothing_is_claimed_while_all_types_are_held_and_recovery_goes_on(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    await bus.hold(reason="deploy", by="ada")
    async with bus:
        await emit(bus, "first")  # the worker reads the holds for it, and releases it
        await anyio.sleep(1)
        claims, recoveries, reads = (outbox.count_of(name) for name in ("claim", "recover", "holds"))
        for number in range(10):
            await emit(bus, f"e{number}", type="order")
            await anyio.sleep(3)
        assert (handled, outbox.claimed_on_emit[1:]) == ([], [0] * 10)
        assert outbox.count_of("claim") == claims
        assert outbox.count_of("recover") > recoveries + 100
        assert 4 <= outbox.count_of("holds") - reads <= 7
        assert (await outbox.count(PENDING), outbox.stored("first").retry_count) == (11, 0)
        await bus.resume()
        await anyio.sleep(READ_EVERY + 1)
    assert len(handled) == 11


async def test_resume_of_all_types_leaves_a_held_type(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    await bus.hold(reason="deploy", by="ada")
    await bus.hold("refund", reason="the bank is down", by="ada")
    async with bus:
        await emit(bus, "r")
        await emit(bus, "o", type="order")
        await anyio.sleep(1)
        await bus.resume()
        await anyio.sleep(READ_EVERY + 1)
    assert (handled, outbox.status_of("r")) == (["o"], HELD)


# Reads


async def test_idle_worker_does_not_read_the_holds(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    async with bus:
        await anyio.sleep(100)
    assert outbox.count_of("holds") == 0


async def test_busy_worker_reads_the_holds_every_five_seconds(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    async with bus:
        for number in range(200):
            await emit(bus, f"e{number}")
            await anyio.sleep(0.5)
    assert len(handled) == 200
    assert 18 <= outbox.count_of("holds") <= 21


async def test_holds_that_cannot_be_read_are_those_that_were_read_before(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with bus:
        outbox.fail("holds", DOWN)
        await emit(bus, "a")
        await anyio.sleep(READ_EVERY + 1)
        assert handled == ["a"]  # none are known
        outbox.restore("holds")
        await bus.hold("refund", reason="the bank is down", by="ada")
        await emit(bus, "b")
        await anyio.sleep(1)
        outbox.fail("holds", DOWN)
        await anyio.sleep(100)
        await emit(bus, "c")
        await anyio.sleep(1)
        assert (handled, outbox.status_of("b"), outbox.status_of("c")) == (["a"], HELD, HELD)
        outbox.restore("holds")
    assert caplog.text.count("the holds could not be read") == 2


async def test_read_without_an_answer_delays_an_event_by_two_seconds_at_most(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    outbox.pause("holds")
    async with bus:
        await emit(bus, "e")
        await anyio.sleep(1.9)
        assert handled == []
        await anyio.sleep(0.2)
        assert handled == ["e"]


async def test_read_is_sent_while_the_event_is_stored(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    gate = outbox.pause("publish")
    async with bus, asyncio.TaskGroup() as group:
        group.create_task(emit(bus, "e"))
        await gate.reached.wait()
        await anyio.sleep(0.01)
        assert outbox.count_of("holds") == 1
        gate.open()
    assert (handled, outbox.count_of("holds")) == (["e"], 1)


async def test_handler_that_waited_for_the_holds_does_not_see_the_context_of_an_emit(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    @bus.on("refund")
    async def refund(event: Event) -> None:
        seen.append(request.get())

    async with bus:
        request.set("an emit")
        for number in range(2):
            await emit(bus, f"e{number}")
        await anyio.sleep(1)
    assert seen == ["none", "none"]


# Stops


async def test_stop_releases_events_that_wait_for_the_holds(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    outbox.pause("holds")
    handled: list[str] = []

    @bus.on("refund")
    async def refund(event: Event) -> None:
        handled.append(event.id)

    async with bus:
        await emit(bus, "e")
    assert (handled, outbox.status_of("e"), outbox.stored("e").retry_count) == ([], PENDING, 0)


async def test_worker_that_is_cancelled_releases_events_that_wait_for_the_holds(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    outbox.pause("holds")
    await bus.start()
    await emit(bus, "e")
    for task in asyncio.all_tasks():
        if task.get_name() == "dynamodb-outbox worker":
            task.cancel()
    await bus.stop()
    await anyio.sleep(0.1)
    assert outbox.status_of("e") in (PENDING, COMPLETED)


# run_once


async def test_run_once_holds_events(bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]) -> None:
    await emit(bus, "r")
    await emit(bus, "o", type="order")
    await bus.hold("refund", reason="the bank is down", by="ada")
    assert await bus.run_once() == 2
    assert (handled, outbox.status_of("r")) == (["o"], HELD)
    await bus.hold(reason="deploy", by="ada")
    await emit(bus, "o2", type="order")
    assert await bus.run_once() == 0
    assert outbox.status_of("o2") is PENDING
    await bus.resume()
    await bus.resume("refund")
    assert await bus.run_once() == 2
    assert sorted(handled) == ["o", "o2", "r"]


# Events that wait behind the gate


async def test_event_that_waits_for_a_permit_is_not_started_once_its_type_is_held(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    started: list[str] = []

    @bus.on("refund", concurrency=1)
    async def refund(event: Event) -> None:
        started.append(event.id)
        await anyio.sleep(6)

    async with bus:
        for number in range(3):
            await emit(bus, f"r{number}")
        await anyio.sleep(0.1)
        # By another process: this worker reads the holds when the first handler gives its permit back.
        await outbox.hold("refund", reason="the bank is down", by="ada")
        await anyio.sleep(60)
        assert started == ["r0"]
        assert (await outbox.count(HELD), outbox.stored("r1").retry_count) == (2, 0)
        await outbox.resume("refund")
        await anyio.sleep(60)
    assert sorted(started) == ["r0", "r1", "r2"]


async def test_handler_that_waits_for_a_permit_is_cancelled_by_a_stop_during_a_read(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    started: list[str] = []

    @bus.on("refund", concurrency=1)
    async def refund(event: Event) -> None:
        started.append(event.id)
        await anyio.sleep(6)

    async with bus:
        for number in range(2):
            await emit(bus, f"r{number}")
        await anyio.sleep(1)
        outbox.pause("holds")
        await anyio.sleep(5.5)
        assert started == ["r0"]
        await bus.stop(timeout=0)
    assert (started, outbox.status_of("r1"), outbox.stored("r1").retry_count) == (["r0"], PENDING, 0)


async def test_event_that_waits_in_the_quarantine_is_not_started_once_its_type_is_held(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    for event_id in ("r0", "r1"):
        await emit(bus, event_id)
        stored = outbox.stored(event_id)
        stored.retry_count, stored.last_error = 2, LEASE_EXPIRED
    gate = outbox.pause("settle")
    async with bus:
        await gate.reached.wait()  # the release of the second one, for which the first one waits
        await outbox.hold("refund", reason="the bank is down", by="ada")
        await anyio.sleep(READ_EVERY + 1)
        gate.open()
        await anyio.sleep(10)
        assert (handled, await outbox.count(HELD)) == ([], 2)


async def test_answer_over_which_the_process_stood_still_is_too_old(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str], virtual_time: VirtualTime
) -> None:
    await outbox.publish([Event("refund", id="e")])
    gate = outbox.pause("holds", after=True, nth=1)
    async with bus:
        await gate.reached.wait()
        await outbox.hold("refund", reason="the bank is down", by="ada")  # not in the answer
        virtual_time.pass_by(READ_EVERY + 1)
        gate.open()
        await anyio.sleep(1)
    assert (handled, outbox.status_of("e"), outbox.count_of("holds")) == ([], HELD, 2)


async def test_hold_during_a_slow_read_is_obeyed_within_five_seconds(
    bus: OutboxEventBus, outbox: ScriptedOutbox, handled: list[str]
) -> None:
    outbox.script("holds", lambda: anyio.sleep(1.5), after=True, nth=1)
    async with bus:
        await emit(bus, "first")
        await anyio.sleep(0.1)
        await outbox.hold("refund", reason="the bank is down", by="ada")  # not in the answer, which is under way
        await anyio.sleep(READ_EVERY + 0.1)
        await emit(bus, "second")
        await anyio.sleep(1)
    assert (handled, outbox.status_of("second")) == (["first"], HELD)
