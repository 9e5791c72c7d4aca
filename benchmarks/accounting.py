"""Counts the capacity units of an event from its emit to its completion, in a separate run that is not timed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.backend import drop_table, new_table
from benchmarks.delivering import Counting
from benchmarks.payloads import TYPE, events
from benchmarks.units import MeteringClient, Projection
from benchmarks.windows import open_window
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units per event. `by` says how the writes were counted: by the backend, by the documented rule, or by both."""

    emit: float
    deliver: float
    read: float
    by: str
    upkeep: float = 0.0
    """Write units per event for the window item of the worker; they are not in the other figures."""

    @property
    def written(self) -> float:
        """Write units from emit to completion."""
        return self.emit + self.deliver


async def polled(client: Any, *batches: Sequence[Event], mode: WriteMode, projection: Projection = "ALL") -> Units:
    """Count the units of events that are emitted, one batch after the other, and then polled."""
    table = await new_table(client, projection)
    meter = MeteringClient(client, projection)
    count = sum(map(len, batches))
    bus, handler = _bus(meter, table, count, mode)
    for batch in batches:
        await bus.emit_many(batch)
    emitted, by = sum(meter.written.values()), meter.units_by
    meter.start_over()
    async with bus:
        await handler.done.wait()
    await drop_table(client, table)
    return Units(
        emit=emitted / count,
        deliver=sum(meter.written.values()) / count,
        read=meter.read / count,
        by=" + ".join(sorted({*by.split(" + "), *meter.units_by.split(" + ")})),
    )


async def on_emit(client: Any, waiting: Sequence[Event], *, mode: WriteMode, projection: Projection = "ALL") -> Units:
    """Count the units of events that are claimed on emit, and stored in the index."""
    count = len(waiting)
    table = await new_table(client, projection)
    meter = MeteringClient(client, projection)
    bus, handler = _bus(meter, table, count, mode)
    async with bus:
        await asyncio.sleep(0.1)
        meter.start_over()
        for event in waiting:
            await bus.emit(event)
        await handler.done.wait()
        await bus.stop()
    await drop_table(client, table)
    total = sum(meter.written.values()) / count
    return Units(emit=total, deliver=0.0, read=meter.read / count, by=meter.units_by)


async def in_window(
    client: Any,
    *,
    count: int,
    mode: WriteMode,
    payload: dict[str, Any] | None = None,
    projection: Projection = "ALL",
) -> Units:
    """Count the units of events that are claimed on emit in a window: one by one, or 25 at once in the mode "batch".

    The upkeep includes the end of the window, but not its start.
    """
    table = await new_table(client, projection)
    meter = MeteringClient(client, projection)
    bus, handler = _bus(meter, table, count, mode, window=True)
    async with bus:
        await open_window(bus)
        meter.start_over()
        at_once = 25 if mode == "batch" else 1
        for _ in range(0, count, at_once):
            await bus.emit_many(events(at_once, payload))
        await handler.done.wait()
        await bus.stop()
    await drop_table(client, table)
    total = sum(meter.written.values()) / count
    return Units(emit=total, deliver=0.0, read=meter.read / count, by=meter.units_by, upkeep=meter.upkeep / count)


def _bus(
    meter: MeteringClient, table: str, count: int, mode: WriteMode, *, window: bool = False
) -> tuple[OutboxEventBus, Counting]:
    client: Any = meter
    handler = Counting(count)
    outbox = DynamoDBOutbox(
        client, table_name=table, conditional_writes=mode, batch_size=25, concurrency=400, window=window
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    return bus, handler
