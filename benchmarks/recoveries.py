"""Measures the recovery of the events of a killed worker, whose events are in a window or in the index."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.measure import Measure
from benchmarks.payloads import TYPE
from benchmarks.recording import RecordingClient
from benchmarks.units import MeteringClient
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus

LEASE: Final = 10.0
"""The lease of the killed worker."""
START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRun:
    """The recovery of one killed worker. The CPU includes the counting of the units."""

    window: bool
    events: int
    recovered: int
    seconds: float
    cpu: float
    """Microseconds per event."""
    requests: int
    written: float
    """Write units per event."""
    read: float
    """Read units per event."""
    lost: int
    """Events that no worker has handled afterwards."""


async def of_killed_worker(clients: Clients, endpoint: str, *, count: int, window: bool) -> RecoveryRun:
    """Kill a worker with unfinished events; when its leases have ended, recover and deliver its events."""
    table = await new_table(clients.ours)
    ids = await _killed(endpoint, table, count=count, window=window)
    await asyncio.sleep(LEASE + 1.0)
    recorder = RecordingClient(clients.ours)
    meter: Any = MeteringClient(recorder)
    outbox = DynamoDBOutbox(meter, table_name=table, conditional_writes="batch", processing_timeout=LEASE)
    with Measure() as measured:
        recovered = await outbox.recover()
    handled = await _delivered(clients.ours, table)
    await drop_table(clients.ours, table)
    return RecoveryRun(
        window=window,
        events=len(ids),
        recovered=len(ids.intersection(recovered.reset)),
        seconds=measured.usage.seconds,
        cpu=measured.usage.cpu / len(ids) * 1e6,
        requests=len(recorder.recording.requests),
        written=sum(meter.written.values()) / len(ids),
        read=meter.read / len(ids),
        lost=len(ids - handled),
    )


async def _killed(endpoint: str, table: str, *, count: int, window: bool) -> set[str]:
    """Run a worker until it has emitted the events, kill it, and return the ids of the events."""
    arguments = ("-m", "benchmarks.killed_process", "--endpoint", endpoint, "--table", table, "--events", str(count))
    options = ("--lease", str(LEASE), "--window" if window else "--no-window")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, *options, stdout=PIPE, limit=1 << 24)
    try:
        if process.stdout is None:
            raise RuntimeError("the process has no pipe")
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    if not line:
        raise RuntimeError("the worker ended before it had emitted its events")
    return set(json.loads(line))


async def _delivered(client: Any, table: str) -> set[str]:
    handled: set[str] = set()

    async def note(event: Event) -> None:
        handled.add(event.id)

    bus = OutboxEventBus(DynamoDBOutbox(client, table_name=table, batch_size=25, window=False))
    bus.on(TYPE, note, name="count")
    async with bus:
        await bus.drain(timeout=60)
    return handled
