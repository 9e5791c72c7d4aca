"""The health of real processes: one that is blocked, suspended, forked, or whose event loop is closed."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "health.md").read_text(encoding="utf-8")
(PROBE,) = re.findall(r'command: \["sh", "-c", "(.*)"\]', PAGE)
"""The command of the guide that looks at the heartbeat file."""

Told = dict[str, Any]


class Process:
    """A process that tells its health, line by line."""

    def __init__(self, process: asyncio.subprocess.Process, file: Path) -> None:
        self.process = process
        self._command = PROBE.replace("/tmp/outbox-alive", str(file))  # noqa: S108 - the path of the guide

    async def until(self, holds: Callable[[Told], bool]) -> list[Told]:
        """Read what it tells until something holds."""
        told: list[Told] = []
        with anyio.fail_after(120):
            while not told or not holds(told[-1]):
                assert self.process.stdout is not None
                line = await self.process.stdout.readline()
                assert line, f"the process has ended after {told[-1:]}"
                told.append(json.loads(line))
        return told

    async def probe(self, *, limit: int) -> bool:
        """Run the command of the guide, with another limit of the age."""
        command = self._command.replace("-lt 120", f"-lt {limit}")
        assert command != self._command
        probe = await asyncio.create_subprocess_exec("sh", "-c", command)
        return await probe.wait() == 0

    async def until_probe(self, expected: bool, *, limit: int) -> None:
        with anyio.fail_after(120):
            while await self.probe(limit=limit) is not expected:
                await anyio.sleep(0.2)


@asynccontextmanager
async def running(mode: str, file: Path) -> AsyncIterator[Process]:
    arguments = ["-W", "error::ResourceWarning", "-m", "tests.processes.health_program", mode, str(file)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    try:
        yield Process(process, file)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def is_ready(told: Told) -> bool:
    return bool(told["ready"])


def event_loop_of(told: Told) -> Told:
    (check,) = told["checks"]["event_loop"]
    return dict(check)


def is_degraded(told: Told) -> bool:
    """Whether the event loop stands still, or did lately."""
    return "event_loop" in told["checks"] and event_loop_of(told)["status"] == "warn"


@pytest.mark.thorough
async def test_blocked_event_loop_is_told_by_a_thread_and_is_over_afterwards(tmp_path: Path) -> None:
    async with running("blocks", tmp_path / "alive") as process:
        *_, blocked = await process.until(lambda told: is_degraded(told) and not is_ready(told))
        assert blocked["status"] == "warn"
        assert "has run nothing for" in event_loop_of(blocked)["output"]
        told = await process.until(is_ready)
        assert all(each["live"] for each in told)
        assert "ran nothing for" in event_loop_of(told[-1])["output"]
        assert event_loop_of(told[-1])["data"]["seconds"] > 2


async def test_suspended_process_fails_the_probe_of_its_file_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    async with running("idles", file) as process:
        await process.until(is_ready)
        await process.until_probe(True, limit=60)
        process.process.send_signal(signal.SIGSTOP)
        await process.until_probe(False, limit=8)
        process.process.send_signal(signal.SIGCONT)
        *_, resumed = await process.until(lambda told: is_degraded(told) and is_ready(told))
        assert resumed["live"]
        assert "the process was stopped" in event_loop_of(resumed)["output"]
        await process.until_probe(True, limit=8)


async def test_missing_heartbeat_file_fails_the_probe(tmp_path: Path) -> None:
    async with running("idles", tmp_path / "missing" / "alive") as process:
        await process.until(is_ready)
        assert not await process.probe(limit=60)


@pytest.mark.parametrize(("mode", "reason"), [("forks", "forked"), ("closes", "was closed")])
async def test_process_without_its_worker_is_not_live(mode: str, reason: str, tmp_path: Path) -> None:
    async with running(mode, tmp_path / "alive") as process:
        *_, told = await process.until(lambda told: not told["live"])
        assert not told["ready"]
        assert reason in told["checks"]["worker"][0]["output"]
