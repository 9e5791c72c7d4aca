"""Events with ordering keys, and processes that are killed or stand still: none overtakes another, and none is lost.

ORDERING_EVENTS and ORDERING_KEYS set the size, for example of a run of 20,000 events and 2,000 keys before a release.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.ordering.queue import PAGE_PREFIX, PREFIX
from reliability.history import Claimed, EmitAcknowledged, HandlerStarted, Recovered, ReplyLost, WorkerStarted
from reliability.proxy import CUT_AFTER, Recorded, running_proxy
from reliability.soak.network_faults import event_ids_in, operation_of
from tests.adapter_timing import with_timing
from tests.backends import open_client
from tests.conftest import fresh_dynamodb_local
from tests.processes.conftest import Judge
from tests.processes.program import name_of
from tests.processes.workers import Workers, statuses
from tests.thorough import often

EVENTS: Final = int(os.environ.get("ORDERING_EVENTS", often(150, thorough=220)))
KEYS: Final = int(os.environ.get("ORDERING_KEYS", often(25, thorough=36)))
HARMS: Final = max(often(2, thorough=4), EVENTS // 500)
LONGEST: Final = 600 if EVENTS <= 600 else 7200
"""The time limit in seconds, which only a hang reaches."""
WORKERS: Final = 4
EMITTERS: Final = 4
LEASE: Final = 3.0
LOST: Final = 0.03
OPTIONS: Final[dict[str, Any]] = {
    "handler": "ordered",
    "handler_options": {"seconds": 0.02},
    "processing_timeout": LEASE,
    "poll_interval": 0.2,
    "base_backoff": 0.05,
    # So many retries that no event fails where a busy machine answers requests later than the lease lasts.
    "max_retries": 100,
}


def orders() -> list[Event]:
    """Events whose keys are frequent as Zipf's law has it; every tenth fails once, and every tenth emits another."""
    dice = random.Random(EVENTS)
    names = [f"order-{number}" for number in range(KEYS)]
    weights = [1 / (number + 1) for number in range(KEYS)]
    keys = dice.choices(names, weights, k=EVENTS)
    return [
        Event(
            "order.placed",
            {"fails": dice.random() < 0.1, "child_key": f"{key}-child" if dice.random() < 0.1 else None},
            ordering_key=key,
        )
        for key in keys
    ]


async def emit(bus: OutboxEventBus, events: list[Event], dice: random.Random) -> None:
    """Emit events one after the other: alone, as lists, and in transactions."""
    while events:
        count = dice.choice([1, 1, 1, 3, 12])
        group, events = events[:count], events[count:]
        if dice.random() < 0.2:
            async with bus.transaction() as tx:
                for event in group:
                    tx.emit(event)
        elif len(group) == 1:
            await bus.emit(group[0])
        else:
            await bus.emit_many(group)


async def harm(workers: Workers, number: int, dice: random.Random) -> None:
    """Kill the process that has begun an event last, or let it stand still beyond its lease."""
    await workers.until(len(workers.of(HandlerStarted)) + dice.randint(1, 10), HandlerStarted)
    busy = workers.of(HandlerStarted)[-1].worker
    (process,) = [process for process in workers.processes if name_of(process.pid) == busy]
    if number % 2:
        workers.suspend(process)
        await anyio.sleep(dice.uniform(1.5, 2.5) * LEASE)
        workers.resume(process)
    else:
        workers.kill(process)
        workers.start(**OPTIONS)


@pytest.fixture
def local_endpoint(local_endpoint: str) -> Iterator[str]:
    """A new DynamoDB Local for each test. With streams, its writes slow down with the number of writes before them.

    After 12,000 events, a write to another table with a stream takes 80 ms.
    """
    with fresh_dynamodb_local(instead_of=local_endpoint) as endpoint:
        yield endpoint


@pytest.fixture
async def lossy_endpoint(workers: Workers, local_endpoint: str) -> AsyncIterator[str]:
    """The endpoint of a proxy that loses some of the replies, on the record."""
    dice = random.Random(KEYS)

    def lose(request: Recorded) -> Any:
        proxy.requests.clear()  # they are many
        if dice.random() >= LOST:
            return None
        lost = ReplyLost(
            at=workers.now(),
            operation=operation_of(request),
            event_ids=tuple(dict.fromkeys(event_ids_in(request))),
            applied=True,
        )
        workers.recorder.write(lost)
        return CUT_AFTER

    async with running_proxy(local_endpoint) as proxy:
        proxy.rule = lose
        yield proxy.endpoint


async def deliver(workers: Workers, bus: OutboxEventBus) -> None:
    """Emit events in as many parts as there are harms, and one more; harm a process while the events of a part come."""
    dice = random.Random(EVENTS + KEYS)
    events = orders()
    await workers.until_ready(*(workers.start(**OPTIONS) for _ in range(WORKERS)))
    for number in range(HARMS + 1):
        part = events[number :: HARMS + 1]
        async with anyio.create_task_group() as group:
            for emitter in range(EMITTERS):
                group.start_soon(emit, bus, part[emitter::EMITTERS], random.Random(f"{number} {emitter}"))
            if number < HARMS:
                group.start_soon(harm, workers, number, dice)
    await bus.drain(LONGEST)


async def check_all(workers: Workers, client: Any, judge: Judge) -> None:
    """Check that all events are completed, that no queue is left, and what the checker says."""
    assert [code for code in workers.stop() if code not in (0, -signal.SIGKILL)] == []
    emitted = {record.event_id for record in workers.of(EmitAcknowledged)}
    assert len(emitted) >= EVENTS
    counts = await statuses(client, workers.table_name)
    assert counts.keys() == {"COMPLETED"}
    assert counts["COMPLETED"] >= len(emitted)
    pages = client.get_paginator("scan").paginate(TableName=workers.table_name, ProjectionExpression="id")
    left = [item["id"]["S"] async for page in pages for item in page["Items"]]
    assert [item_id for item_id in left if item_id.startswith((PREFIX, PAGE_PREFIX))] == []
    assert workers.of(Recovered), "no worker was harmed while it held a key"
    assert any(claim.on_emit for claim in workers.of(Claimed)), "no key was claimed on emit"
    assert len(workers.of(WorkerStarted)) > WORKERS
    await judge()


@pytest.mark.timeout(LONGEST)
async def test_no_event_overtakes_another_one_of_its_key_while_workers_die_and_stand_still(
    workers: Workers, bus: OutboxEventBus, local_client: Any, judge_by_account: Judge
) -> None:
    await deliver(workers, bus)
    await check_all(workers, local_client, judge_by_account)


@pytest.mark.thorough
@pytest.mark.timeout(LONGEST)
async def test_no_event_overtakes_another_one_of_its_key_while_replies_are_lost(
    workers: Workers, outbox: DynamoDBOutbox, lossy_endpoint: str, local_client: Any, judge_by_account: Judge
) -> None:
    workers.connect_to(lossy_endpoint)
    async with open_client(lossy_endpoint) as client:
        lossy = DynamoDBOutbox(client, table_name=outbox.table_name)
        with_timing(lossy, publish=120.0, transact=120.0, operator=120.0)
        await deliver(workers, OutboxEventBus(workers.recorder.around(lossy)))
    await check_all(workers, local_client, judge_by_account)
