"""Delivering: a backlog, events that are claimed on emit, and both at once. The handler does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks import floor
from benchmarks.comparison import Run
from benchmarks.emitting import stored
from benchmarks.engine import Clients, drop_table, new_table
from benchmarks.gauge import Gauge
from benchmarks.payloads import TYPE, events, prepared_items
from benchmarks.recording import Recording, RecordingClient
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode

BATCH_SIZE: Final = 25
CONCURRENCY: Final = 200
EMITS_AT_ONCE: Final = 4


class Counting:
    """A handler that does nothing but count, and tells when all events were there."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self.done = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        """Count an event."""
        self._left -= 1
        if not self._left:
            self.done.set()


async def backlog(
    clients: Clients,
    *,
    count: int,
    mode: WriteMode = "batch",
    batch_size: int = BATCH_SIZE,
    payload: dict[str, Any] | None = None,
    projection: Any = "ALL",
) -> Run:
    """Deliver events that wait; the floor makes the same queries, claims and completes."""
    ours, target = await new_table(clients.ours, projection), await new_table(clients.ours, projection)
    waiting = prepared_items(events(count, payload))
    await stored(clients.ours, waiting, table=ours)
    await stored(clients.ours, waiting, table=target)
    recorder = RecordingClient(clients.ours)
    handler = Counting(count)
    outbox = DynamoDBOutbox(
        recorder, table_name=ours, conditional_writes=mode, batch_size=batch_size, concurrency=CONCURRENCY
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    with Gauge() as gauge:
        async with bus:
            await handler.done.wait()
    return await _with_floor(clients, recorder.recording, gauge, count=count, source=ours, target=target)


async def births(clients: Clients, *, count: int, mode: WriteMode = "batch") -> Run:
    """Emit where the worker runs, 25 a call; the floor makes the same writes and completes."""
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours)
    handler = Counting(count)
    async with _worker(recorder, ours, handler, mode) as bus:
        recorder.start_over()
        with Gauge() as gauge:
            await _emit(bus, events(count))
            await handler.done.wait()
            await bus.stop()
    return await _with_floor(clients, recorder.recording, gauge, count=count, source=ours, target=target)


async def mixed(clients: Clients, *, count: int) -> Run:
    """Deliver a backlog while as many events again are emitted; the floor makes the same requests."""
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    waiting = prepared_items(events(count // 2))
    await stored(clients.ours, waiting, table=ours)
    await stored(clients.ours, waiting, table=target)
    recorder = RecordingClient(clients.ours)
    handler = Counting(count // 2 * 2)
    outbox = DynamoDBOutbox(
        recorder, table_name=ours, conditional_writes="batch", batch_size=BATCH_SIZE, concurrency=CONCURRENCY
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    emitted = events(count // 2)
    with Gauge() as gauge:
        async with bus:
            await _emit(bus, emitted)
            await handler.done.wait()
    return await _with_floor(clients, recorder.recording, gauge, count=count // 2 * 2, source=ours, target=target)


@asynccontextmanager
async def _worker(client: Any, table: str, handler: Counting, mode: WriteMode) -> AsyncGenerator[OutboxEventBus]:
    outbox = DynamoDBOutbox(
        client, table_name=table, conditional_writes=mode, batch_size=BATCH_SIZE, concurrency=2 * CONCURRENCY
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    async with bus:
        # Idle: the first look, which finds nothing, is over.
        await asyncio.sleep(0.1)
        yield bus


async def _emit(bus: OutboxEventBus, waiting: Sequence[Event]) -> None:
    chunks = iter([waiting[start : start + 25] for start in range(0, len(waiting), 25)])

    async def emitter() -> None:
        for chunk in chunks:
            await bus.emit_many(chunk)

    await asyncio.gather(*(emitter() for _ in range(EMITS_AT_ONCE)))


async def _with_floor(
    clients: Clients, recording: Recording, gauge: Gauge, *, count: int, source: str, target: str
) -> Run:
    usage = await floor.replayed(clients.bare, floor.moved(recording, source=source, target=target))
    await drop_table(clients.ours, source)
    await drop_table(clients.ours, target)
    return Run(events=count, ours=gauge.usage, floor=usage, requests=len(recording.requests))
