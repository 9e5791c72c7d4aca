"""Processes that tests start, kill and wait for, what they did, and what they leave in the table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import anyio

from dynamodb_outbox.event import RESERVED_IDS
from reliability.checker import Limits, check, report
from reliability.history import (
    ErrorReported,
    HandlerEnded,
    HandlerStarted,
    Noted,
    Record,
    Result,
    TimeMoved,
    WorkerKilled,
    WorkerResumed,
    WorkerStarted,
    WorkerSuspended,
)
from reliability.items import final_state, is_event
from reliability.journal import Journal, record_of
from reliability.recording import Recorder
from reliability.stream import read_account
from tests.processes.program import name_of, true_time

ROOT = Path(__file__).resolve().parents[2]
PATIENT = Limits(tolerance=0.1, slack=20.0)
"""A machine that is busy with other things is late, and its clocks are adjusted now and then."""

Process = subprocess.Popen[bytes]
R = TypeVar("R")


class Workers:
    """Processes on one table, and the history that they wrote together."""

    def __init__(self, endpoint: str, table_name: str, history: Path) -> None:
        offset = time.time() - time.monotonic()
        self._arguments = [endpoint, table_name, str(history), repr(offset)]
        self._journal = Journal(history)
        self._history = history
        self.folder = history.parent
        self._read = 0
        self._records: list[Record] = []
        self.table_name = table_name
        self.now = true_time(offset)
        self.recorder = Recorder(self._journal, worker="test", now=self.now)
        self.processes: list[Process] = []
        self._terminated: set[Process] = set()

    def start(
        self, program: str = "worker", *, environment: Mapping[str, str] | None = None, **options: Any
    ) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.processes.{program}", *self._arguments, json.dumps(options)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        self.processes.append(process)
        return process

    def connect_to(self, endpoint: str) -> None:
        """Have later processes connect to another endpoint, such as that of a proxy."""
        self._arguments[0] = endpoint

    # What they do to them

    def kill(self, process: Process) -> None:
        """End a process by SIGKILL."""
        if process.poll() is None:
            process.kill()
            process.wait()
            self._journal(WorkerKilled(at=self.now(), worker=name_of(process.pid)))

    def suspend(self, process: Process) -> None:
        """Have a process stand still."""
        process.send_signal(signal.SIGSTOP)
        self._journal(WorkerSuspended(at=self.now(), worker=name_of(process.pid)))

    def resume(self, process: Process) -> None:
        """Have a process go on."""
        process.send_signal(signal.SIGCONT)
        self._journal(WorkerResumed(at=self.now(), worker=name_of(process.pid)))

    def terminate(self, process: Process) -> None:
        """Send SIGTERM, once: a second one would kill a process whose event loop has closed already."""
        if process not in self._terminated:
            self._terminated.add(process)
            process.terminate()

    def stop(self) -> list[int]:
        for process in self.processes:
            self.terminate(process)
        return [process.wait(timeout=60) for process in self.processes]

    async def make_due(self, client: Any, status: str) -> None:
        """Let the times come for which events of a status wait: that of a retry, or the end of a lease."""
        for event_id, item in (await items(client, self.table_name)).items():
            if item["status"]["S"] == status:
                self._journal(TimeMoved(at=self.now(), event_id=event_id))
                # The last write of a worker that was killed may come between the read and this one.
                with suppress(client.exceptions.ConditionalCheckFailedException):
                    await client.update_item(
                        TableName=self.table_name,
                        Key={"id": {"S": event_id}},
                        UpdateExpression="SET gsiSortKey = :past",
                        ConditionExpression="#status = :status",
                        ExpressionAttributeNames={"#status": "status"},
                        ExpressionAttributeValues={":past": {"N": "1000"}, ":status": {"S": status}},
                    )

    # What they did

    def history(self) -> list[Record]:
        """All records, in the order in which they were written."""
        with self._history.open("rb") as file:
            file.seek(self._read)
            lines, _, _ = file.read().rpartition(b"\n")
        if lines:
            self._read += len(lines) + 1
            self._records += [record_of(line) for line in lines.decode().splitlines()]
        return self._records

    def of(self, kind: type[R], process: Process | None = None) -> list[R]:
        """The records of a kind, of one process or of all."""
        worker = None if process is None else name_of(process.pid)
        return [
            record
            for record in self.history()
            if isinstance(record, kind) and worker in (None, getattr(record, "worker", None))
        ]

    def succeeded(self, process: Process | None = None) -> list[HandlerEnded]:
        """The calls of handlers that ended well."""
        return [end for end in self.of(HandlerEnded, process) if end.result is Result.SUCCEEDED]

    def noted(self, what: str, process: Process | None = None) -> list[Noted]:
        """What handlers had to say."""
        return [note for note in self.of(Noted, process) if note.what == what]

    def errors(self, process: Process | None = None) -> list[str]:
        """What was reported, but for looks that a busy machine did not answer in time: they are repeated."""
        reported = self.of(ErrorReported, process)
        return [f"{error.kind}: {error.text}" for error in reported if error.kind != "PollingError"]

    def held_by(self, process: Process, *, since: type[HandlerStarted | Noted] = HandlerStarted) -> set[str]:
        """The events that a process has begun, or said something of, and not ended."""
        started = {record.event_id for record in self.of(since, process)}
        return started - {end.event_id for end in self.of(HandlerEnded, process)}

    # Waiting for them

    async def until(self, count: int, kind: type[Any], process: Process | None = None) -> None:
        """Wait until there are so many records of a kind, of one process or of all."""
        with anyio.fail_after(120):
            while len(self.of(kind, process)) < count:
                assert all(process.poll() in (None, 0, -signal.SIGKILL) for process in self.processes)
                await anyio.sleep(0.02)

    async def until_noted(self, count: int, what: str, process: Process | None = None) -> None:
        """Wait until so much was said."""
        with anyio.fail_after(120):
            while len(self.noted(what, process)) < count:
                await anyio.sleep(0.02)

    async def until_ready(self, *processes: Process) -> None:
        for process in processes:
            await self.until(1, WorkerStarted, process)

    async def until_dead(self, process: Process) -> None:
        """Wait until a process has killed itself."""
        with anyio.fail_after(120):
            while process.poll() is None:
                await anyio.sleep(0.02)
        assert process.returncode == -signal.SIGKILL

    async def until_error(self, start: str, process: Process) -> None:
        """Wait until a process has reported an error whose text begins so."""
        with anyio.fail_after(60):
            while not any(text.startswith(start) for text in self.errors(process)):
                await anyio.sleep(0.02)

    # Judging them

    async def judge(self, client: Any, streams: Any = None, *, limits: Limits = PATIENT) -> None:
        """Have the checker find nothing: in the history, and given `streams` in the engine's own account."""
        found = [item async for item in _scanned(client, self.table_name)]
        account = [] if streams is None else await read_account(client, streams, table_name=self.table_name)
        final = final_state(found, at=self.now())
        history = sorted([*self.history(), *account], key=attrgetter("at"))
        violations = check(history, final, limits=limits)
        assert not violations, report(violations, history)


async def items(client: Any, table_name: str) -> dict[str, dict[str, Any]]:
    """Every item of a table, by its id, but for the items of workers: their list, windows and tombstones."""
    found = {item["id"]["S"]: item async for item in _scanned(client, table_name)}
    return {
        key: item
        for key, item in found.items()
        if is_event(item) or ("status" not in item and not key.startswith(RESERVED_IDS))
    }


async def _scanned(client: Any, table_name: str) -> AsyncIterator[dict[str, Any]]:
    async for page in client.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True):
        for item in page["Items"]:
            yield item


async def statuses(client: Any, table_name: str) -> Counter[str]:
    """How many events of the table have which status."""
    return Counter(item["status"]["S"] for item in (await items(client, table_name)).values())
