"""Measures the latency from an emit to the start of its handler, next to a bare put."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter
from typing import Any, Final

from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.payloads import TYPE, events, prepared_items
from benchmarks.windows import open_window
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus

CONCURRENCY: Final = 50
PAUSE: Final = 0.01
"""Seconds between samples, in which the worker settles the event and becomes idle."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The median and the 99th percentile of the samples, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Compute the percentiles of samples."""
        cuts = quantiles(seconds, n=100, method="inclusive")
        return cls(cuts[49] * 1000, cuts[98] * 1000)


@dataclass(frozen=True, slots=True)
class LatencyRun:
    """One run, in which emits and bare puts alternate."""

    ours: Latency
    put: Latency

    @property
    def p50_ratio(self) -> float:
        """The median of the library divided by the median of the puts."""
        return self.ours.p50 / self.put.p50

    @property
    def p99_ratio(self) -> float:
        """The 99th percentile of the library divided by the 99th percentile of the puts."""
        return self.ours.p99 / self.put.p99


async def emit_to_handler(clients: Clients, *, samples: int, claim_on_emit: bool, window: bool = False) -> LatencyRun:
    """For each sample, emit an event, wait for its handler, and put an item. With `window`, a window is open."""
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    items = prepared_items(events(samples))
    outbox = DynamoDBOutbox(
        clients.ours,
        table_name=ours,
        poll_interval=1.0,
        claim_on_emit=claim_on_emit,
        window=window,
        concurrency=CONCURRENCY,
    )
    bus = OutboxEventBus(outbox)
    started: list[float] = []
    handled = asyncio.Event()

    @bus.on(TYPE)
    async def handle(event: Event) -> None:
        started.append(perf_counter())
        handled.set()

    emitted: list[float] = []
    put: list[float] = []
    async with bus:
        await asyncio.sleep(0.2)
        if window:
            await open_window(bus)
        for item in items:
            (event,) = events(1)
            gc.collect(0)
            handled.clear()
            emitted.append(perf_counter())
            await bus.emit(event)
            await handled.wait()
            await asyncio.sleep(PAUSE)
            put.append(await _put(clients.bare, item, table=target))
            await asyncio.sleep(PAUSE)
    await drop_table(clients.ours, ours)
    await drop_table(clients.ours, target)
    return LatencyRun(Latency.of([end - begin for begin, end in zip(emitted, started, strict=True)]), Latency.of(put))


async def _put(client: Any, item: dict[str, Any], *, table: str) -> float:
    """Put an item; return the seconds."""
    before = perf_counter()
    await client.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(id)")
    return perf_counter() - before
