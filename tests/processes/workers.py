"""Processes that tests start, kill and wait for, and what these leave in the table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from dynamodb_outbox.dynamodb.peers import WORKERS_ID

ROOT = Path(__file__).resolve().parents[2]


class Workers:
    """Processes on one table, and the history that they wrote together."""

    def __init__(self, endpoint: str, table_name: str, history: Path) -> None:
        self._arguments = [endpoint, table_name, str(history)]
        self._history = history
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, program: str = "worker", **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.processes.{program}", *self._arguments, json.dumps(options)], cwd=ROOT
        )
        self.processes.append(process)
        return process

    def history(self) -> list[dict[str, Any]]:
        if not self._history.exists():
            return []
        lines = self._history.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def of(self, what: str, process: subprocess.Popen[bytes] | None = None) -> list[dict[str, Any]]:
        pid = None if process is None else process.pid
        return [entry for entry in self.history() if entry["what"] == what and pid in (None, entry["pid"])]

    async def until(self, count: int, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """Wait until there are so many entries of a kind, of one process or of all."""
        with anyio.fail_after(120):
            while len(self.of(what, process)) < count:
                assert all(process.poll() in (None, 0, -signal.SIGKILL) for process in self.processes)
                await anyio.sleep(0.02)

    async def until_ready(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            await self.until(1, "ready", process)

    def errors(self, process: subprocess.Popen[bytes] | None = None) -> list[str]:
        """What was reported, but for looks that a busy machine did not answer in time: they are repeated."""
        texts: list[str] = [entry["text"] for entry in self.of("error", process)]
        return [text for text in texts if not text.startswith("PollingError")]

    async def until_error(self, start: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a process has reported an error whose text begins so."""
        with anyio.fail_after(60):
            while not any(text.startswith(start) for text in self.errors(process)):
                await anyio.sleep(0.02)

    def held_by(self, process: subprocess.Popen[bytes], *, since: str = "start") -> set[str]:
        """The events that a process has begun, or been so far with, and not ended."""
        started, ended = ({entry["id"] for entry in self.of(what, process)} for what in (since, "end"))
        return started - ended

    def stop(self) -> list[int]:
        for process in self.processes:
            process.terminate()
        return [process.wait(timeout=60) for process in self.processes]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process by SIGKILL."""
    process.kill()
    process.wait()


async def items(client: Any, table_name: str) -> dict[str, dict[str, Any]]:
    """Every item of a table, by its id, but for the one in which workers announce themselves."""
    found: dict[str, dict[str, Any]] = {}
    async for page in client.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True):
        found |= {item["id"]["S"]: item for item in page["Items"]}
    found.pop(WORKERS_ID, None)
    return found


async def make_due(client: Any, table_name: str, status: str) -> None:
    """Let the times come for which events of a status wait: that of a retry, or the end of a lease."""
    for event_id, item in (await items(client, table_name)).items():
        if item["status"]["S"] == status:
            await client.update_item(
                TableName=table_name,
                Key={"id": {"S": event_id}},
                UpdateExpression="SET gsiSortKey = :past",
                ExpressionAttributeValues={":past": {"N": "1000"}},
            )


async def statuses(client: Any, table_name: str) -> Counter[str]:
    """How many events of the table have which status."""
    return Counter(item["status"]["S"] for item in (await items(client, table_name)).values())
