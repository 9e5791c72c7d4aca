"""Processes that emit events into a window, and die or stand still: no acknowledged event is lost."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dynamodb_outbox import OutboxEventBus
from reliability.history import EmitAcknowledged, ErrorReported
from tests.processes.conftest import Judge
from tests.processes.workers import Process, Workers, items
from tests.thorough import often

EMITS = 200
DEATHS = often(4, thorough=20)
LEASE = 4.0
ANY_TIMES = 100
"""So many retries that no event fails where a busy machine answers requests later than the lease lasts."""


def acknowledged(workers: Workers, *processes: Process) -> set[str]:
    """The events of which processes know that they are stored."""
    return {record.event_id for process in processes for record in workers.of(EmitAcknowledged, process)}


async def until_all_are_handled(workers: Workers, bus: OutboxEventBus, client: Any, emitted: set[str]) -> None:
    """Wait until every event has ended, and see that each was handled and none is missing."""
    await bus.drain(240)
    stored = await items(client, workers.table_name)
    assert emitted <= stored.keys()
    unfinished = [stored[event_id] for event_id in emitted if stored[event_id]["status"] != {"S": "COMPLETED"}]
    assert unfinished == [], "\n".join(
        str(record) for record in workers.history() if getattr(record, "event_id", None) == unfinished[0]["id"]["S"]
    )
    assert emitted <= {end.event_id for end in workers.succeeded()}


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_no_acknowledged_event_is_lost_however_often_its_process_is_killed(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge: Judge
) -> None:
    emitters: list[Process] = []
    unlisted = 0
    for _ in range(DEATHS):
        emitter = workers.start("emits", count=EMITS, max_retries=ANY_TIMES)
        emitters.append(emitter)
        await workers.until_dead(emitter)
        left = (await items(local_client, workers.table_name)).values()
        unlisted += sum(item["status"]["S"] == "PROCESSING" and "gsiSortKey" not in item for item in left)
    emitted = acknowledged(workers, *emitters)
    assert len(emitted) == DEATHS * EMITS
    assert unlisted > DEATHS, "too few events were in a window when their process died"
    workers.start(poll_interval=0.2, processing_timeout=LEASE, max_retries=ANY_TIMES)
    await until_all_are_handled(workers, bus, local_client, emitted)
    assert workers.stop()[-1] == 0
    await judge()


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_killed", [False, True], ids=["goes on", "is killed when it goes on"])
async def test_no_acknowledged_event_is_lost_when_its_process_stands_still_beyond_its_lease(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge, *, is_killed: bool
) -> None:
    other = workers.start(poll_interval=0.2, processing_timeout=LEASE, max_retries=ANY_TIMES)
    await workers.until_ready(other)
    emitters = [workers.start("emits", count=EMITS, dies=False, pause=0.1, max_retries=ANY_TIMES) for _ in range(2)]
    for emitter in emitters:
        await workers.until(EMITS // 4, EmitAcknowledged, emitter)
        for _ in range(1 if is_killed else 2):
            workers.suspend(emitter)
            await anyio.sleep(2 * LEASE)
            workers.resume(emitter)
            await anyio.sleep(0.02 if is_killed else 0.5)
        if is_killed:
            workers.kill(emitter)
        else:
            await workers.until_noted(1, "emitted", emitter)
    emitted = acknowledged(workers, *emitters)
    assert len(emitted) > EMITS // 2
    await until_all_are_handled(workers, bus, local_client, emitted)
    if not is_killed:
        lost = [error for error in workers.of(ErrorReported) if error.kind == "WindowLostError"]
        assert lost, "no process stood still for long enough to show anything"
    assert workers.stop()[0] == 0
    await judge_by_account()
