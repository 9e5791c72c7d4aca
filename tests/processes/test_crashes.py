"""Processes that die or stand still at the worst moments, and processes whose clocks are wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, OutboxEventBus
from reliability.history import Claimed, HandlerStarted, Recovered, SettleRefused
from tests.processes.conftest import Judge
from tests.processes.workers import Process, Workers, items, statuses
from tests.programs import path_of

FIVE_MINUTES = 300.0


async def deliver_after_the_death(
    workers: Workers, bus: OutboxEventBus, client: Any, *, dies_after: list[Any]
) -> Process:
    """Emit, have a worker die at a certain moment, and another one deliver what it left."""
    victim = workers.start(dies_after=dies_after, processing_timeout=2.0, poll_interval=0.2)
    await workers.until_ready(victim)
    await bus.emit_many([Event("order.placed", {"n": n}) for n in range(5)])
    await workers.until_dead(victim)
    workers.start(processing_timeout=2.0, poll_interval=0.2)
    await bus.drain(60)
    assert await statuses(client, workers.table_name) == {"COMPLETED": 5}
    return victim


async def test_event_that_a_worker_claimed_and_never_started_is_taken_up_by_another(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge
) -> None:
    victim = await deliver_after_the_death(workers, bus, local_client, dies_after=["Claimed", 1])
    claimed = workers.of(Claimed, victim)
    assert len(claimed) == 1
    assert workers.of(HandlerStarted, victim) == []
    assert Counter(start.event_id for start in workers.of(HandlerStarted)).most_common(1)[0][1] == 1
    # What else came with that claim had no time to be on the record.
    assert claimed[0].event_id in {claim.event_id for claim in workers.of(Claimed) if claim.attempt == 2}
    await judge_by_account()


async def test_event_that_a_worker_handled_and_never_settled_is_delivered_again_under_the_same_id(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge
) -> None:
    victim = await deliver_after_the_death(workers, bus, local_client, dies_after=["HandlerEnded", 1])
    (done,) = workers.succeeded(victim)
    runs = Counter(end.event_id for end in workers.succeeded())
    assert runs.pop(done.event_id) == 2
    assert set(runs.values()) == {1}
    item = (await items(local_client, workers.table_name))[done.event_id]
    assert item["retryCount"]["N"] == "1"
    await judge_by_account()


async def test_what_a_suspended_worker_does_after_its_lease_changes_nothing(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge
) -> None:
    let_go = workers.folder / "let go"
    options = {"handler": "waiting", "handler_options": {"let_go": str(let_go)}, "poll_interval": 0.2}
    sleeper = workers.start(**options, processing_timeout=2.0)
    await workers.until_ready(sleeper)
    event = await bus.emit("order.placed")
    await workers.until(1, HandlerStarted, sleeper)
    workers.suspend(sleeper)
    assert workers.held_by(sleeper) == {event.id}, "it was suspended too late to show anything"
    other = workers.start(**options, processing_timeout=120.0)
    await workers.until(1, HandlerStarted, other)
    before = await items(local_client, workers.table_name)
    workers.resume(sleeper)
    await workers.until(1, SettleRefused, sleeper)
    # Nor does it recover what it has lost.
    assert await items(local_client, workers.table_name) == before
    assert (before[event.id]["status"]["S"], before[event.id]["retryCount"]["N"]) == ("PROCESSING", "1")
    let_go.touch()
    # It is none the worse for it.
    await bus.emit_many([Event("order.placed") for _ in range(5)])
    await bus.drain(60)
    assert {end.event_id for end in workers.succeeded(other)} >= {event.id}
    assert workers.stop() == [0, 0]
    assert [record.event_id for record in workers.of(Recovered)][:1] == [event.id]
    await judge_by_account()


@pytest.mark.thorough
@pytest.mark.parametrize("means", ["the option", "libfaketime"])
@pytest.mark.parametrize("ahead", [FIVE_MINUTES, -FIVE_MINUTES], ids=["ahead", "behind"])
async def test_workers_whose_clocks_are_five_minutes_apart_share_the_work(
    workers: Workers,
    bus: OutboxEventBus,
    local_client: Any,
    judge_by_account: Judge,
    request: pytest.FixtureRequest,
    *,
    means: str,
    ahead: float,
) -> None:
    options: dict[str, Any] = {"poll_interval": 0.2, "processing_timeout": 60.0, "concurrency": 5, "batch_size": 5}
    # One worker alone would take 8 polls for the events, so that the other cannot come too late for all of them.
    options |= {"handler": "sleeping", "handler_options": {"seconds": 0.2}}
    wrong = workers.start(**options, **off_by(ahead, means, request.config))
    right = workers.start(**options)
    await workers.until_ready(wrong, right)
    events = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(40)])
    await bus.drain(60)
    assert Counter(end.event_id for end in workers.succeeded()).keys() == {event.id for event in events}
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": 40}
    # What is due now is not due to a clock that is behind; one that is ahead sees leases run out that do not.
    assert workers.succeeded(right)
    if ahead > 0:
        assert workers.succeeded(wrong)
    assert workers.stop() == [0, 0]
    await judge_by_account()


def off_by(seconds: float, means: str, config: pytest.Config) -> dict[str, Any]:
    """The options that have a worker process err about the time."""
    if means == "the option":
        return {"clock_ahead": seconds}
    library = path_of("libfaketime", config)
    # The loop's own clock only tells how long something takes, and is right on any machine.
    environment = {"LD_PRELOAD": library, "FAKETIME": f"{seconds:+.0f}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"known_offset": seconds, "environment": environment | {"DONT_FAKE_MONOTONIC": "1"}}


async def test_clock_of_libfaketime_is_really_wrong(
    workers: Workers, bus: OutboxEventBus, request: pytest.FixtureRequest
) -> None:
    wrong = off_by(FIVE_MINUTES, "libfaketime", request.config)
    process = workers.start(poll_interval=0.2, processing_timeout=60.0, **wrong)
    await workers.until_ready(process)
    await bus.emit("order.placed")
    with anyio.fail_after(60):
        await workers.until(1, Claimed, process)
    claim = workers.of(Claimed, process)[0]
    assert claim.lease_expires_at - claim.at > FIVE_MINUTES
