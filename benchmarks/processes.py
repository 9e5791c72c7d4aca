"""Measures worker processes: several processes on one backlog, and one process on small to large backlogs."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import Any, Final

from benchmarks.backend import drop_table, new_table
from benchmarks.emitting import stored
from benchmarks.payloads import events, prepared_items

STALLED_SECONDS: Final = 60.0
STORED_AT_ONCE: Final = 5000

Break = Callable[[], Awaitable[object]]
"""Work to do while the processes are suspended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersRun:
    """The results of several worker processes on one backlog."""

    workers: int
    events: int
    rate: float
    refused: int
    handled_twice: int
    cpu: float
    """Microseconds per event, of all processes together."""

    @property
    def refused_share(self) -> float:
        """The share of refused claims among all claims."""
        return self.refused / (self.refused + self.events + self.handled_twice)


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogRun:
    """The results of one worker process on a backlog."""

    events: int
    rate: float
    cpu: float
    """Microseconds per event."""
    peak_megabytes: float

    @classmethod
    def mean(cls, runs: Sequence[BacklogRun]) -> BacklogRun:
        """Return the mean of runs on backlogs of the same length."""
        return cls(
            events=runs[0].events,
            rate=fmean(run.rate for run in runs),
            cpu=fmean(run.cpu for run in runs),
            peak_megabytes=fmean(run.peak_megabytes for run in runs),
        )


async def share_backlog(client: Any, endpoint: str, *, workers: int, count: int) -> WorkersRun:
    """Deliver one backlog with several worker processes, with the default options."""
    reports, seconds = await _drain(client, endpoint, count=count, workers=workers, options=("--ids",))
    handled = Counter(event_id for report in reports for event_id in report["ids"])
    return WorkersRun(
        workers=workers,
        events=count,
        rate=count / seconds,
        refused=sum(report["refused"] for report in reports),
        handled_twice=sum(times - 1 for times in handled.values()),
        cpu=sum(report["cpu"] for report in reports) / count * 1e6,
    )


async def drain_backlog(client: Any, endpoint: str, *, count: int, breaks: Sequence[Break] = ()) -> BacklogRun:
    """Deliver a backlog with one process, in batches of 25.

    Breaks suspend the process after equal parts of the backlog.
    """
    options = ("--batch-size", "25", "--concurrency", "200")
    (report,), seconds = await _drain(client, endpoint, count=count, workers=1, options=options, breaks=breaks)
    cpu = report["cpu"] / count * 1e6
    return BacklogRun(events=count, rate=count / seconds, cpu=cpu, peak_megabytes=report["peak_megabytes"])


async def _drain(
    client: Any, endpoint: str, *, count: int, workers: int, options: tuple[str, ...], breaks: Sequence[Break] = ()
) -> tuple[list[dict[str, Any]], float]:
    table = await new_table(client)
    for start in range(0, count, STORED_AT_ONCE):
        waiting = events(min(STORED_AT_ONCE, count - start))
        await stored(client, prepared_items(waiting), table=table)
    arguments = ("-m", "benchmarks.worker_process", "--endpoint", endpoint, "--table", table, *options)
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=1 << 24)
        for _ in range(workers)
    ]
    try:
        followers = [_Follower(process) for process in processes]
        await asyncio.gather(*(follower.line() for follower in followers))
        seconds = await _until_handled(followers, count, breaks)
        reports = [json.loads(follower.report) for follower in followers]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
    await drop_table(client, table)
    return reports, seconds


async def _until_handled(followers: list[_Follower], count: int, breaks: Sequence[Break]) -> float:
    """Start the workers, and stop them when all events are handled. Return the seconds, without the breaks."""
    tasks = [asyncio.create_task(follower.follow()) for follower in followers]
    for follower in followers:
        follower.order("go")
    left = deque(enumerate(breaks, start=1))
    handled, started = 0, perf_counter()
    changed = started
    while handled < count:
        await asyncio.sleep(0.05)
        if (now := sum(follower.handled for follower in followers)) != handled:
            handled, changed = now, perf_counter()
        if perf_counter() - changed > STALLED_SECONDS:
            raise RuntimeError(
                f"{handled} of {count} events were handled, and then no event for {STALLED_SECONDS:.0f} s"
            )
        if left and handled >= count * left[0][0] / (len(breaks) + 1):
            lasted = await _suspended(followers, left.popleft()[1])
            started, changed = started + lasted, changed + lasted
    for follower in followers:
        follower.order("stop")
    await asyncio.gather(*tasks)
    return changed - started


async def _suspended(followers: list[_Follower], during: Break) -> float:
    """Suspend the workers during some work, and return its seconds."""
    began = perf_counter()
    for follower in followers:
        follower.signal(signal.SIGSTOP)
    await during()
    for follower in followers:
        follower.signal(signal.SIGCONT)
    return perf_counter() - began


class _Follower:
    """Reads the output of one process."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._input, self._output = process.stdin, process.stdout
        self.signal = process.send_signal
        self.report = ""
        self.handled = 0

    async def line(self) -> str:
        return (await self._output.readline()).decode().strip()

    def order(self, word: str) -> None:
        self._input.write(f"{word}\n".encode())

    async def follow(self) -> None:
        while not self.report:
            line = await self.line()
            if line.isdigit():
                self.handled = int(line)
            elif line:
                self.report = line
            else:
                raise RuntimeError("a worker process ended early")
