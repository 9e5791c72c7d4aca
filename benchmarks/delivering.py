"""Measures delivery of a backlog, of events that are claimed on emit, and of both at once. The handler does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks import baseline
from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.emitting import stored
from benchmarks.measure import Measure
from benchmarks.payloads import TYPE, events, prepared_items
from benchmarks.recording import Recording, RecordingClient
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode

BATCH_SIZE: Final = 25
CONCURRENCY: Final = 200
EMITS_AT_ONCE: Final = 4


class Counting:
    """A handler that counts events, and sets `done` after the last event."""

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
    """Deliver a backlog; the baseline makes the same queries, claims and completions."""
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
    with Measure() as measured:
        async with bus:
            await handler.done.wait()
    return await with_baseline(clients, recorder.recording, measured, count=count, source=ours, target=target)


async def on_emit(
    clients: Clients, *, count: int, mode: WriteMode = "batch", waiting: Sequence[Event] | None = None
) -> Run:
    """Emit in the process of the worker, 25 events per call; the baseline makes the same writes and completions.

    The events, which may be given in `waiting`, are stored in the index. `benchmarks.windows` measures others.
    """
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours)
    handler = Counting(count)
    async with _worker(recorder, ours, handler, mode) as bus:
        recorder.start_over()
        with Measure() as measured:
            await _emit(bus, waiting or events(count))
            await handler.done.wait()
            await bus.stop()
    return await with_baseline(clients, recorder.recording, measured, count=count, source=ours, target=target)


async def mixed(clients: Clients, *, count: int) -> Run:
    """Deliver a backlog while the same number of new events is emitted; the baseline makes the same requests."""
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
    with Measure() as measured:
        async with bus:
            await _emit(bus, emitted)
            await handler.done.wait()
    return await with_baseline(clients, recorder.recording, measured, count=count // 2 * 2, source=ours, target=target)


@asynccontextmanager
async def _worker(client: Any, table: str, handler: Counting, mode: WriteMode) -> AsyncGenerator[OutboxEventBus]:
    outbox = DynamoDBOutbox(
        client,
        table_name=table,
        conditional_writes=mode,
        batch_size=BATCH_SIZE,
        concurrency=2 * CONCURRENCY,
        window=False,
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    async with bus:
        # The worker is idle after its first poll, which finds nothing.
        await asyncio.sleep(0.1)
        yield bus


async def _emit(bus: OutboxEventBus, waiting: Sequence[Event]) -> None:
    chunks = iter([waiting[start : start + 25] for start in range(0, len(waiting), 25)])

    async def emitter() -> None:
        for chunk in chunks:
            await bus.emit_many(chunk)

    await asyncio.gather(*(emitter() for _ in range(EMITS_AT_ONCE)))


async def with_baseline(
    clients: Clients, recording: Recording, measured: Measure, *, count: int, source: str, target: str
) -> Run:
    """Measure the baseline of a recording on a table in the same state, and delete both tables."""
    usage = await baseline.replayed(clients.bare, baseline.moved(recording, source=source, target=target))
    await drop_table(clients.ours, source)
    await drop_table(clients.ours, target)
    return Run(events=count, ours=measured.usage, baseline=usage, requests=len(recording.requests))
