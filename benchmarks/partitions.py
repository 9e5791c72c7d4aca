"""Measures the throughput of shards under partition limits: production code in virtual time, on a simulated table.

DynamoDB Local has no limits, and the real service would cost an hour of load for each number of shards. Here, the
production code of emitters and workers runs on event loops in virtual time. The simulated table accepts 1,000 write
units per second in each partition of the table and of the index, and throttles further writes, as DynamoDB does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from botocore.exceptions import ClientError

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX, STATUS_INDEX, STATUS_KEY, TableSchema
from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.observers import EventCompleted, EventRecovered, LeaseLost, Observation, SettleFailed, Throttled
from reliability.simulation.backend import Backend
from reliability.simulation.client import Client
from reliability.simulation.loop import Timeline
from reliability.simulation.partitions import PartitionLimits

SHARDS: Final = (1, 2, 4, 8, 16)
SECONDS: Final = 2.0
"""Virtual seconds of emits; then the remaining events are delivered. The first quarter of this time does not count."""
BATCH: Final = 25
PER_SHARD: Final = 500
"""The events per second of a shard by the rule: an event costs two of the 1,000 units per second of a partition."""
OFFERED: Final = 2_000
"""The events per second that are emitted where they are handled: four times what one shard carries."""
UNDER_WAY: Final = 600
"""The limit of events per shard that are emitted and not yet delivered."""
PROCESSES: Final = 8
TABLE_PARTITIONS: Final = 64
"""The partitions of the table. On-demand tables split them by load; the partitions of a hot index key are not split."""
BURST_SECONDS: Final = 0.05
"""DynamoDB allows bursts of five minutes of unused capacity; here bursts are short, so that the limit shows at once."""
HALF_TRIP: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsRun:
    """The results for one number of shards. `per_second` counts completed events under constant load.

    Times are virtual seconds; `throttled` counts requests and statements. `window` is None if other processes handle
    the events; otherwise the processes that emit them do, with a window or without one.
    """

    shards: int
    window: bool | None = None
    events: int
    per_second: float
    drained_after: float
    throttled: int
    settles_failed: int
    leases_lost: int
    lost: int
    handled_twice: int


class _World:
    def __init__(self, shards: int, seconds: float, seed: int, *, window: bool | None) -> None:
        self.seconds = seconds
        self.window = window
        self.random = Random(seed)
        self.timeline = Timeline(self.random)
        limits = PartitionLimits(table_partitions=TABLE_PARTITIONS, burst_seconds=BURST_SECONDS)
        self.backend = Backend(clock=self.now, gate=limits)
        self.shards = shards
        self.emitted: list[str] = []
        self.emitting = PROCESSES
        self.begun = 0
        self.handled: Counter[str] = Counter()
        self.seen: Counter[type[Observation]] = Counter()
        self.completed_at: list[float] = []

    def now(self) -> float:
        return 1_790_000_000.0 + self.timeline.now

    def bus(self) -> OutboxEventBus:
        outbox = DynamoDBOutbox(
            Client(self.send),
            table_name="events",
            shards=self.shards,
            batch_size=BATCH,
            concurrency=250,
            claim_on_emit=self.window is not None,
            window=self.window is True,
            on_error=self.note,
            observers=[self.observe],
            clock=self.now,
            random=self.random.random,
        )
        bus = OutboxEventBus(outbox)
        bus.on("t", self.handle)
        return bus

    async def send(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Send a call to the backend and its response back; each way takes `HALF_TRIP`."""
        await asyncio.sleep(HALF_TRIP)
        reply: Any
        try:
            reply = self.backend.execute(operation, parameters)
        except ClientError as error:
            reply = error
        await asyncio.sleep(HALF_TRIP)
        if isinstance(reply, ClientError):
            raise reply
        return reply

    async def handle(self, event: Event) -> None:
        self.handled[event.id] += 1

    def observe(self, observation: Observation) -> None:
        self.seen[type(observation)] += 1
        if isinstance(observation, EventCompleted):
            self.completed_at.append(self.timeline.now)

    def note(self, error: OutboxError) -> None:
        """Ignore reports of throttled polls and settles, because the observer counts them."""

    async def deliver(self, bus: OutboxEventBus) -> None:
        """Deliver until all events are completed."""
        async with bus:
            while not self.is_over:  # noqa: ASYNC110 - an asyncio.Event belongs to one loop, and this world has several
                await asyncio.sleep(0.1)

    async def emit(self, bus: OutboxEventBus) -> None:
        """Emit more than the shards can carry, up to the limit of undelivered events."""
        async with asyncio.TaskGroup() as group:
            while self.timeline.now < self.seconds:
                if self.begun - self.seen[EventCompleted] < UNDER_WAY * self.shards:
                    self.begun += BATCH
                    group.create_task(self.emit_some(bus))
                await asyncio.sleep(HALF_TRIP)
        self.emitting -= 1

    async def emit_and_deliver(self, bus: OutboxEventBus) -> None:
        """Emit at a fixed rate where the handlers are, and deliver until all events are completed."""
        async with bus:
            async with asyncio.TaskGroup() as group:
                while self.timeline.now < self.seconds:
                    self.begun += BATCH
                    group.create_task(self.emit_some(bus))
                    await asyncio.sleep(BATCH * PROCESSES / OFFERED)
            self.emitting -= 1
            while not self.is_over:  # noqa: ASYNC110 - an asyncio.Event belongs to one loop, and this world has several
                await asyncio.sleep(0.1)

    async def emit_some(self, bus: OutboxEventBus) -> None:
        events = [Event("t", {"text": "x" * 400}) for _ in range(BATCH)]
        while events:
            try:
                await bus.emit_many(events)
            except OutboxError as error:
                # Like a service whose table is at its limit: emit the events again that were not stored.
                stored = {event.id for event in getattr(error, "published", ())}
                self.emitted += stored
                events = [event for event in events if event.id not in stored]
                continue
            self.emitted += [event.id for event in events]
            return

    @property
    def is_over(self) -> bool:
        return self.emitting == 0 and self.seen[EventCompleted] >= len(self.emitted)


def simulate(shards: int, *, seconds: float = SECONDS, seed: int = 1, window: bool | None = None) -> ShardsRun:
    """Emit and deliver at the limit of a number of shards, or `OFFERED` events a second where they are emitted."""
    world = _World(shards, seconds, seed, window=window)
    key = STATUS_KEY if shards == 1 else SHARD_ATTRIBUTE
    index = STATUS_INDEX if shards == 1 else SHARDED_INDEX
    schema = TableSchema(table_name="events", indexes={index: key})
    world.backend.execute("create_table", schema.definition())
    works = [world.emit, world.deliver] if window is None else [world.emit_and_deliver]
    services = [world.timeline.new_loop().create_task(work(world.bus())) for work in works * PROCESSES]
    world.timeline.run_until(lambda: all(service.done() for service in services))
    world.timeline.bury()
    for service in services:
        service.result()
    return ShardsRun(
        shards=shards,
        window=window,
        events=len(world.emitted),
        per_second=sum(seconds / 4 <= at < seconds for at in world.completed_at) / (seconds * 3 / 4),
        drained_after=max(world.completed_at) - seconds,
        throttled=world.seen[Throttled],
        settles_failed=world.seen[SettleFailed],
        leases_lost=world.seen[LeaseLost] + world.seen[EventRecovered],
        lost=len(set(world.emitted) - set(world.handled)),
        handled_twice=sum(count > 1 for count in world.handled.values()),
    )
