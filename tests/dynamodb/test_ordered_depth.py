"""A key with many waiting events: each emit and each delivery costs the same at every depth, and the order is kept.

DEPTH=10000 tries a line of ten thousand events, which takes some minutes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import pytest

from benchmarks.units import MeteringClient, Projection, item_bytes
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.delivering.queue_exits import MAX_KEPT
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, is_queue_id
from tests.dynamodb.ordered import ids_of, orders, patient

DEPTH: Final = int(os.environ.get("DEPTH") or 200)
SHALLOW: Final = 100
LARGEST_QUEUE: Final = 2048

# In ten emits, one page is filled. In fifty deliveries, five pages are emptied, and the key is given up once.
EMITS: Final = WIDTH
DELIVERIES: Final = MAX_KEPT

# An event is put for 1 unit and appended for 2, or 1 if the row does not change. One append of ten is refused, for 1,
# and is replaced by a transaction: 2 for the page, 2 for the queue and 1 for its row.
EMIT_UNITS: Final[dict[Projection, float]] = {"ALL": (10 + 9 * 2 + 1 + 5) / 10, "KEYS_ONLY": (10 + 9 * 1 + 1 + 4) / 10}
# An event is marked for 1 unit and popped for 3. One pop of ten is a transaction: 2 for the page, 2 for the queue and 2
# for its rows. One event of fifty is claimed after a poll, for 3.
DELIVERY_UNITS: Final = (50 + 45 * 3 + 5 * 6 + 3) / 50
# Fronts and pages are read for 1 unit each, and so is the queue after a transaction, which returns no item.
READ_UNITS: Final = (50 + 5 + 4) / 50


class DepthMeter(MeteringClient):
    """Counts units, without those of polls, and remembers how large the queue has ever been."""

    largest_queue = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name) if name == "query" else super().__getattr__(name)

    def know(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Remember items that are stored."""
        stored = [dict(item) for item in items]
        super().know(stored)
        sizes = [item_bytes(item) for item in stored if is_queue_id(item["id"]["S"])]
        self.largest_queue = max([self.largest_queue, *sizes])

    @property
    def total(self) -> float:
        """All write units until now."""
        return sum(self.written.values())


@dataclass
class Line:
    """The events of one key, emitted by one bus and handled by another."""

    meter: Any
    outbox: DynamoDBOutbox
    events: list[Event] = field(default_factory=lambda: orders(DEPTH))
    handled: list[str] = field(default_factory=list[str])
    written: list[float] = field(default_factory=list[float])
    read: list[float] = field(default_factory=list[float])
    emitted: int = 0

    async def emit(self, upto: int) -> float:
        """Emit the next events until that many are emitted; return the units of the last ten, emitted one by one."""
        bus = OutboxEventBus(self.outbox)
        await bus.emit_many(self.events[self.emitted : upto - EMITS])
        before = self.meter.total
        for event in self.events[upto - EMITS : upto]:
            await bus.emit(event)
        self.emitted = upto
        units: float = self.meter.total - before
        return units / EMITS

    async def deliver(self) -> None:
        """Handle all events, and note the units until each of them."""
        bus, done = OutboxEventBus(self.outbox), asyncio.Event()

        @bus.on("order.paid")
        async def handle(event: Event) -> None:
            self.handled.append(event.id)
            self.written.append(self.meter.total)
            self.read.append(self.meter.read)
            if len(self.handled) == DEPTH:
                done.set()

        async with bus:
            await done.wait()


def _per_event(totals: Sequence[float]) -> list[float]:
    """Return the units of an event, at ever smaller depths: each the mean of fifty events, one after the other."""
    return [(after - before) / DELIVERIES for before, after in pairwise(totals[::DELIVERIES])]


@pytest.mark.timeout(60 + DEPTH)
@pytest.mark.parametrize("projection", ["ALL", pytest.param("KEYS_ONLY", marks=pytest.mark.thorough)])
async def test_emit_and_delivery_cost_the_same_however_many_events_wait(
    local_client: Any, table_name: str, caplog: pytest.LogCaptureFixture, projection: Projection
) -> None:
    meter: Any = DepthMeter(local_client, projection)
    errors: list[Exception] = []
    options: dict[str, Any] = {"conditional_writes": "batch", "poll_interval": 30, "on_error": errors.append}
    outbox = patient(DynamoDBOutbox(meter, table_name=table_name, **options))
    await outbox.create_table(projection=projection)
    line = Line(meter, outbox)

    at_first, in_the_end = await line.emit(SHALLOW), await line.emit(DEPTH)
    assert at_first == in_the_end == pytest.approx(EMIT_UNITS[projection])

    await line.deliver()
    assert line.handled == ids_of(line.events)
    costs = _per_event(line.written)
    assert len(costs) == (DEPTH - 1) // DELIVERIES
    assert costs == pytest.approx([DELIVERY_UNITS] * len(costs))
    assert _per_event(line.read) == pytest.approx([READ_UNITS] * len(costs), abs=0.1)
    assert 900 < meter.largest_queue <= LARGEST_QUEUE

    assert [await outbox.count(status) for status in ("PENDING", "PROCESSING", "FAILED")] == [0, 0, 0]
    assert not errors
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
