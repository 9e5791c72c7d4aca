"""Real worker processes on DynamoDB Local: nothing lost, nothing twice, and what a killed one leaves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, OutboxEventBus
from reliability.history import ClaimRefused, HandlerStarted
from tests.processes.conftest import Judge
from tests.processes.program import name_of
from tests.processes.workers import Workers, statuses
from tests.thorough import often

EVENTS = often(400, thorough=600)


@pytest.mark.thorough
async def test_three_workers_handle_every_event_exactly_once(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge: Judge
) -> None:
    await workers.until_ready(*[workers.start(poll_interval=0.2) for _ in range(3)])
    events = [Event("order.placed", {"n": n}) for n in range(EVENTS)]
    for start in range(0, EVENTS, 200):
        await bus.emit_many(events[start : start + 200])
    await bus.drain(120)
    assert workers.stop() == [0, 0, 0]
    handled = Counter(end.event_id for end in workers.succeeded())
    assert handled == Counter(event.id for event in events)
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": EVENTS}
    assert workers.errors() == []
    # They divide the events: few claims are refused, and billed for nothing. Hardly any are where the workers hear of
    # each other in time; without that there would be two for each event.
    assert len(workers.of(ClaimRefused)) <= 0.2 * len(events)
    await judge()


async def test_killed_worker_loses_nothing_and_explains_every_duplicate(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge: Judge
) -> None:
    options = {"poll_interval": 0.2, "processing_timeout": 20.0, "handler_options": {"seconds": 0.2}, "batch_size": 25}
    options["concurrency"] = 50
    victim, *others = [workers.start(**options) for _ in range(3)]
    await workers.until_ready(victim, *others)
    events = [Event("order.placed", {"n": n}) for n in range(1000)]
    await bus.emit_many(events)
    await workers.until(300, HandlerStarted)
    with anyio.fail_after(60):
        while not workers.held_by(victim):
            await anyio.sleep(0.01)
    workers.kill(victim)
    await bus.drain(120)
    assert workers.stop()[1:] == [0, 0]
    assert await statuses(local_client, workers.table_name) == {"COMPLETED": 1000}
    ended = Counter(end.event_id for end in workers.succeeded())
    assert ended.keys() == {event.id for event in events}
    held = {start.event_id for start in workers.of(HandlerStarted) if start.worker == name_of(victim.pid)}
    started = Counter(start.event_id for start in workers.of(HandlerStarted))
    twice = {event_id for event_id, count in started.items() if count > 1}
    assert twice, "the worker was killed too late to show anything"
    assert twice <= held
    assert workers.errors() == []
    await judge()
