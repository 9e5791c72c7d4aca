"""A FIFO queue keeps the order of each key, over two worker processes of which one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from reliability.proxy import Proxy
from tests.adapter_timing import with_timing
from tests.publishers.queues import FailingTarget, Queue

EVENTS = int(os.environ.get("PUBLISHED_EVENTS", "40"))
KEYS = max(4, EVENTS // 50)


@contextmanager
def worker(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-m", "tests.publishers.worker", *arguments], cwd=root)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.thorough
async def test_order_of_keys_over_two_workers_and_a_kill(
    local_client: Any, local_endpoint: str, table_name: str, fifo: Queue, sqs_proxy: Proxy
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name, poll_interval=0.1)
    with_timing(outbox, publish=120.0, operator=120.0)
    await outbox.create_table()
    target = sqs_proxy.rule = FailingTarget(fifo.client)
    bus = OutboxEventBus(outbox)
    events = [Event("order.placed", n, ordering_key=f"order {n % KEYS}") for n in range(EVENTS)]
    arguments = (local_endpoint, table_name, sqs_proxy.endpoint, fifo.url)
    await bus.emit_many(events)
    with worker(*arguments) as first, worker(*arguments):
        while len(target.accepted) < EVENTS // 4:
            await anyio.sleep(0.05)
        first.kill()
        await bus.drain(60 + EVENTS)
    assert await bus.get_failed_events() == []
    assert target.failed.total() > 0
    received: dict[str, list[int]] = defaultdict(list)
    for message in await fifo.receive_all():
        body = json.loads(message["Body"])
        received[body["partitionkey"]].append(body["data"])
    # SQS has removed the repeats, by the ids of the events.
    assert received == {f"order {key}": list(range(key, EVENTS, KEYS)) for key in range(KEYS)}
