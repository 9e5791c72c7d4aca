"""Polling: how often an idle worker polls, and how it handles events that may have ended other workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import anyio
import pytest

from dynamodb_outbox import ConfigurationError, Event, EventStatus, InMemoryOutbox, OutboxEventBus, RetryLater
from dynamodb_outbox.adapter import Claim, Completed, OutboxOptions, Outcome, Released
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import EventCompleted, EventReleased, Observation
from dynamodb_outbox.worker.handling.quarantine import Quarantine
from dynamodb_outbox.worker.hold_gate import HoldGate
from dynamodb_outbox.worker.phase import Phases
from dynamodb_outbox.worker.poll import Poller, Slots
from dynamodb_outbox.worker.timing import Timing
from dynamodb_outbox.worker.vitals import Vitals
from tests.fakes import Call, ScriptedOutbox
from tests.virtual_time import VirtualTime

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


def poller_of(outbox: InMemoryOutbox) -> Poller:
    registry = HandlerRegistry(max_handlers=10, on_max_handlers=lambda event_type, count: None)
    gate = HoldGate(outbox, start=lambda claim: None, settle=lambda claim, outcome: None, timing=Timing())
    vitals = Vitals(outbox.options, Phases(), on_beat=lambda vitals: None)
    return Poller(outbox, registry, Slots(10), gate, vitals, on_claim=lambda claim: None, report=lambda error: None)


async def test_idle_worker_polls_less_often_until_an_event_comes() -> None:
    outbox = InMemoryOutbox(poll_interval=1.0, max_poll_interval=6.0, random=lambda: 0.5)
    poller = poller_of(outbox)
    assert [await poller.poll() for _ in range(5)] == [1, 2, 4, 6, 6]
    poller.reset_idle_delay()
    assert await poller.poll() == 1
    assert await poller.poll() == 2
    await outbox.publish([Event("order.placed")])
    assert await poller.poll() == 1


async def test_idle_worker_without_a_longest_interval_keeps_its_interval() -> None:
    poller = poller_of(InMemoryOutbox(random=lambda: 0.5))
    assert [await poller.poll() for _ in range(4)] == [1, 1, 1, 1]


async def test_longest_interval_is_not_below_the_interval() -> None:
    with pytest.raises(
        ConfigurationError, match=r"=0\.5: it must be a number of seconds from 1 \(the poll_interval\) to 3,600"
    ):
        InMemoryOutbox(max_poll_interval=0.5)


async def test_idle_worker_makes_at_most_two_queries_per_interval() -> None:
    outbox = ScriptedOutbox(poll_interval=0.1, random=lambda: 0.5)
    async with OutboxEventBus(outbox):
        await anyio.sleep(1.05)
    # One poll and one recovery at the start, then ten polls, and nine recoveries, which leave time for other queries.
    assert (outbox.count_of("claim"), outbox.count_of("recover")) == (11, 10)


async def test_events_that_ended_two_workers_are_taken_one_at_a_time() -> None:
    now = 1_790_000_000.0
    outbox = ScriptedOutbox(clock=lambda: now, poll_interval=0.01, max_retries=9)
    bus = OutboxEventBus(outbox)
    running = most = 0

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.005)
        running -= 1

    events = await bus.emit_many([Event("order.placed") for _ in range(6)])
    for _ in range(2):
        assert len(await outbox.claim(10)) == 6
        now += 31
        await outbox.recover()
    with anyio.fail_after(10):
        async with bus:
            while any(outbox.status_of(event.id) is not COMPLETED for event in events):
                await anyio.sleep(0.002)
                now += 0.002
    assert most == 1
    # The attempts of those that had to wait are not counted.
    assert {outbox.stored(event.id).retry_count for event in events} == {2}


@pytest.mark.parametrize(("count", "first", "others"), [(40, 10.0, 10.0), (10, 100.0, 0.005)])
async def test_many_quarantined_events_cost_few_claims_and_are_handled_soon(
    virtual_time: VirtualTime, count: int, first: float, others: float
) -> None:
    outbox = InMemoryOutbox(poll_interval=1.0, max_retries=9, concurrency=100, batch_size=50, processing_timeout=600)
    told = Counter[type[Observation]]()
    bus = OutboxEventBus(outbox)
    bus.add_observer(lambda observation: told.update([type(observation)]))
    most = running = 0

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await anyio.sleep(first if told[EventCompleted] == 0 else others)
        running -= 1

    await bus.emit_many([Event("order.placed") for _ in range(count)])
    for _ in range(2):
        assert len(await outbox.claim(100)) == count
        virtual_time.pass_by(601)
        await outbox.recover()
    begun = virtual_time.time()
    async with bus:
        await bus.drain(timeout=None)
    assert most == 1
    needed = first + (count - 1) * max(others, 1.0)  # at best one comes back with each poll
    assert virtual_time.time() - begun < 2.2 * needed
    assert told[EventReleased] < count * count * 2


async def test_quarantined_event_is_postponed_by_a_lease_at_most() -> None:
    delays: list[float] = []
    options = OutboxOptions(poll_interval=1.0, processing_timeout=30.0)
    suspects = Quarantine(
        options, start=lambda claim: None, release=lambda claim, released: delays.append(released.delay)
    )
    for n in range(500):
        suspects.take(Claim(event=Event("order.placed"), token=f"{n}", attempt=3, lease_expires_at=0, last_error="x"))
    await anyio.sleep(100)
    suspects.take(Claim(event=Event("order.placed"), token="late", attempt=3, lease_expires_at=0, last_error="x"))
    assert delays == [*map(float, range(1, 30)), *[30.0] * 471]


async def test_retry_without_a_delay_comes_at_once(virtual_time: VirtualTime) -> None:
    outbox = InMemoryOutbox(poll_interval=60.0, base_backoff=0)
    bus = OutboxEventBus(outbox)
    times: list[float] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        times.append(virtual_time.time())
        if len(times) < 3:
            raise RetryLater(0)

    async with bus:
        await anyio.sleep(1)
        await bus.emit("order.placed")
        await bus.drain(120)
    assert times[2] - times[0] < 1


def has(kind: type[Outcome]) -> Callable[[Call], bool]:
    """Whether a settle has an outcome of a kind."""
    return lambda call: any(isinstance(outcome, kind) for _, outcome in call.argument)


async def test_quarantined_event_does_not_start_after_the_worker_is_cancelled() -> None:
    now = 1_790_000_000.0
    outbox = ScriptedOutbox(clock=lambda: now, poll_interval=0.01, max_retries=9)
    gate = outbox.pause("settle", when=has(Released))
    bus = OutboxEventBus(outbox)
    begun: list[str] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        begun.append(event.id)

    await bus.emit_many([Event("order.placed") for _ in range(3)])
    for _ in range(2):
        assert len(await outbox.claim(10)) == 3
        now += 31
        await outbox.recover()
    await bus.start()
    await gate.reached.wait()
    (owner,) = (task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker")
    owner.cancel()
    await anyio.sleep(0.1)
    gate.open()
    await anyio.sleep(0.1)
    await bus.stop()
    assert begun == []
    assert await outbox.count(EventStatus.PENDING) == 3


async def test_next_quarantined_event_starts_though_the_last_one_finished_before_a_release() -> None:
    now = 1_790_000_000.0
    outbox = ScriptedOutbox(clock=lambda: now, poll_interval=0.01, max_retries=9)
    bus = OutboxEventBus(outbox)
    running = anyio.Event()

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        running.set()
        await gate.reached.wait()

    await bus.emit_many([Event("order.placed", id="first"), Event("order.placed", id="second")])
    for _ in range(2):
        assert len(await outbox.claim(10)) == 2
        now += 31
        await outbox.recover()
    here, elsewhere = await outbox.claim(10)
    await outbox.settle([(here, Released())])
    # From here on, a release is answered only once an event was completed.
    gate = outbox.pause("settle", when=has(Released))

    async def answer() -> None:
        gate.open()

    outbox.script("settle", answer, after=True, when=has(Completed))
    with anyio.fail_after(10):
        async with bus:
            await running.wait()
            # Claimed while the first runs, the second is given back; the first has completed before that is answered.
            await InMemoryOutbox.settle(outbox, [(elsewhere, Released())])  # past the gate, as another worker does
            while outbox.status_of("second") is not COMPLETED:
                bus.notify()
                await anyio.sleep(0.002)
                now += 0.002
