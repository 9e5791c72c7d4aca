"""Measures events that are claimed on emit in a window, next to the same events in the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks import baseline
from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.delivering import BATCH_SIZE, CONCURRENCY, EMITS_AT_ONCE, Counting
from benchmarks.emitting import stored
from benchmarks.measure import Measure
from benchmarks.payloads import TYPE, events
from benchmarks.recording import RecordingClient
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.observers import Observation, WindowOpened

Emit = Callable[[OutboxEventBus, int], Awaitable[None]]

WARM_UP: Final = "warmed.up"
WARM_UPS: Final = 20
"""Events before the measurement, where no window is to be opened."""


async def open_window(bus: OutboxEventBus) -> None:
    """Emit events until the worker of the bus has opened a window, and wait until they are completed."""
    opened = asyncio.Event()

    def observe(observation: Observation) -> None:
        if isinstance(observation, WindowOpened):
            opened.set()

    bus.on(WARM_UP, _ignore, name="warm up")
    bus.add_observer(observe)
    while not opened.is_set():
        await bus.emit(WARM_UP)
    # Observations are made only for observers, and would cost CPU in the measurement.
    bus.remove_observer(observe)
    await bus.drain(timeout=60)


async def emit_one_by_one(clients: Clients, *, count: int, window: bool) -> Run:
    """Emit one event after the other where its handler is; the baseline makes the same requests."""
    return await _compared(clients, emit_each, count=count, window=window)


async def emit_many(clients: Clients, *, count: int, window: bool) -> Run:
    """Emit 25 events per call where their handler is, with four emitters; the baseline makes the same requests."""
    return await _compared(clients, emit_chunks, count=count, window=window)


# Each event is made just before its emit, as a service does it. The window has moved past older ids.


async def emit_each(bus: OutboxEventBus, count: int) -> None:
    """Emit one event after the other."""
    for _ in range(count):
        await bus.emit(*events(1))


async def emit_chunks(bus: OutboxEventBus, count: int) -> None:
    """Emit 25 events per call, with four emitters."""
    chunks = iter(range(0, count, BATCH_SIZE))

    async def emitter() -> None:
        for first in chunks:
            await bus.emit_many(events(min(BATCH_SIZE, count - first)))

    await asyncio.gather(*(emitter() for _ in range(EMITS_AT_ONCE)))


async def _compared(clients: Clients, emit: Emit, *, count: int, window: bool) -> Run:
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours)
    handler = Counting(count)
    async with warm(recorder, ours, window=window) as bus:
        bus.on(TYPE, handler, name="count")
        await copied(clients.ours, ours, target)
        recorder.start_over()
        with Measure() as measured:
            await emit(bus, count)
            await handler.done.wait()
            await bus.stop()
    recording = recorder.recording
    usage = await baseline.replayed(clients.bare, baseline.moved(recording, source=ours, target=target))
    await drop_table(clients.ours, ours)
    await drop_table(clients.ours, target)
    return Run(events=count, ours=measured.usage, baseline=usage, requests=len(recording.requests))


@asynccontextmanager
async def warm(client: Any, table: str, *, window: bool) -> AsyncGenerator[OutboxEventBus]:
    """Start a worker, and give it work until it has its window."""
    outbox = DynamoDBOutbox(
        client,
        table_name=table,
        conditional_writes="batch",
        batch_size=BATCH_SIZE,
        concurrency=2 * CONCURRENCY,
        window=window,
    )
    bus = OutboxEventBus(outbox)
    async with bus:
        if window:
            await open_window(bus)
        else:
            bus.on(WARM_UP, _ignore, name="warm up")
            for _ in range(WARM_UPS):
                await bus.emit(WARM_UP)
            await bus.drain(timeout=60)
        yield bus


async def copied(client: Any, source: str, target: str) -> None:
    """Bring the table of the baseline into the same state: it needs the window, which later requests renew."""
    items = (await client.scan(TableName=source))["Items"]
    await stored(client, items, table=target)


async def _ignore(event: Event) -> None:
    pass
