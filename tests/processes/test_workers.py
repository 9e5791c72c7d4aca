"""Real worker processes on DynamoDB Local: nothing lost, nothing twice, and what a killed one leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus

WORKER = Path(__file__).with_name("worker.py")


class Workers:
    """Worker processes on one table, and the history that they wrote together."""

    def __init__(self, endpoint: str, table_name: str, history: Path) -> None:
        self._arguments = [endpoint, table_name, str(history)]
        self._history = history
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, str(WORKER), *self._arguments, json.dumps(options)])
        self.processes.append(process)
        return process

    def history(self) -> list[dict[str, Any]]:
        if not self._history.exists():
            return []
        lines = self._history.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def of(self, what: str) -> list[dict[str, Any]]:
        return [entry for entry in self.history() if entry["what"] == what]

    async def until(self, count: int, what: str) -> None:
        with anyio.fail_after(60):
            while len(self.of(what)) < count:
                assert all(process.poll() in (None, -signal.SIGKILL) for process in self.processes)
                await anyio.sleep(0.02)

    def held_by(self, process: subprocess.Popen[bytes]) -> set[str]:
        """The events that a process has begun and not ended."""
        entries = [entry for entry in self.history() if entry["pid"] == process.pid]
        ended = {entry["id"] for entry in entries if entry["what"] == "end"}
        return {entry["id"] for entry in entries if entry["what"] == "start"} - ended

    def stop(self) -> list[int]:
        for process in self.processes:
            process.terminate()
        return [process.wait(timeout=30) for process in self.processes]


@pytest.fixture
def workers(local_endpoint: str, table_name: str, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(local_endpoint, table_name, tmp_path / "history.jsonl")
    yield started
    for process in started.processes:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
async def outbox(local_client: Any, table_name: str) -> DynamoDBOutbox:
    made = DynamoDBOutbox(local_client, table_name=table_name)
    await made.create_table()
    return made


async def statuses(client: Any, table_name: str) -> Counter[str]:
    """The status of every item of the table."""
    found: Counter[str] = Counter()
    async for page in client.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True):
        found.update(item["status"]["S"] for item in page["Items"])
    return found


async def test_three_workers_handle_every_event_exactly_once(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any
) -> None:
    for _ in range(3):
        workers.start(poll_interval=0.2)
    await workers.until(3, "ready")
    bus = OutboxEventBus(outbox)
    events = [Event("t", {"n": n}) for n in range(2000)]
    for start in range(0, 2000, 200):
        await bus.emit_many(events[start : start + 200])
    await bus.drain(60)
    assert workers.stop() == [0, 0, 0]
    handled = Counter(entry["id"] for entry in workers.of("end"))
    assert handled == Counter(event.id for event in events)
    assert await statuses(local_client, outbox.table_name) == {"COMPLETED": 2000}
    assert workers.of("error") == []


async def test_killed_worker_loses_nothing_and_explains_every_duplicate(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any
) -> None:
    options = {"poll_interval": 0.2, "processing_timeout": 6.0, "handler_seconds": 0.2, "batch_size": 25}
    victim, *_ = [workers.start(**options) for _ in range(3)]
    await workers.until(3, "ready")
    bus = OutboxEventBus(outbox)
    events = [Event("t", {"n": n}) for n in range(2000)]
    await bus.emit_many(events)
    await workers.until(600, "start")
    with anyio.fail_after(30):
        while not workers.held_by(victim):
            await anyio.sleep(0.01)
    victim.kill()
    victim.wait()
    await bus.drain(60)
    assert workers.stop()[1:] == [0, 0]
    assert await statuses(local_client, outbox.table_name) == {"COMPLETED": 2000}
    ended = Counter(entry["id"] for entry in workers.of("end"))
    assert ended.keys() == {event.id for event in events}
    held = {entry["id"] for entry in workers.of("start") if entry["pid"] == victim.pid}
    started = Counter(entry["id"] for entry in workers.of("start"))
    twice = {event_id for event_id, count in started.items() if count > 1}
    assert twice, "the worker was killed too late to show anything"
    assert twice <= held
    assert [entry for entry in workers.of("error") if not entry["text"].startswith("PollingError")] == []
