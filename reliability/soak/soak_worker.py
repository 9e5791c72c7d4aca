"""A process of the soak: `python -m reliability.soak.soak_worker`, with its orders as JSON in its only argument.

It emits events, handles events, or both, until SIGTERM. It records everything in the journal, with its memory, tasks
and connections once a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from dynamodb_outbox import Delivery, DynamoDBOutbox, Event, OutboxError, OutboxEventBus
from dynamodb_outbox.emit_options import IfExists
from reliability.history import Sampled
from reliability.journal import Journal
from reliability.recording import Recorder
from reliability.resources import connections_in_use

TYPES: Final = ("plain", "shared", "long", "committed")
STOP_SECONDS: Final = 3.0
KEYS: Final = tuple(f"key {number}" for number in range(20))
KEYED: Final = 0.4
"""The share of the groups of events that have ordering keys."""
REPEATED: Final = 0.4
"""The share of the emits that time out and are repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The configuration of a process.

    `offset` aligns its monotonic clock with the clock of the checker; `rate` is in emits per second.
    """

    name: str
    endpoint: str
    table: str
    journal: str
    offset: float
    rate: float
    handles: bool
    options: dict[str, Any]


async def live(orders: Orders) -> None:
    """Run until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    recorder = Recorder(Journal(Path(orders.journal)), worker=orders.name, now=lambda: time.monotonic() + orders.offset)
    async with DynamoDBOutbox.connect(
        table_name=orders.table, region_name="us-east-1", endpoint_url=orders.endpoint, **orders.options
    ) as outbox:
        client = outbox._client  # noqa: SLF001 - to count its connections
        bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)
        register(bus, lease=outbox.options.processing_timeout)
        if orders.handles:
            await bus.start()
            recorder.started(outbox)
        sampling = asyncio.create_task(sample(recorder, client))
        emitting = asyncio.create_task(emit(bus, orders.rate, stopping))
        await stopping.wait()
        await emitting
        sampling.cancel()
        if orders.handles:
            await bus.stop(STOP_SECONDS)
            recorder.stopped(client)


def register(bus: OutboxEventBus, *, lease: float) -> None:
    """Register handlers: a plain one, two of the same type, one longer than its lease, and one with a transaction."""

    @bus.on("plain", name="plain")
    async def plain(event: Event) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))

    @bus.on("shared", name="steady")
    async def steady(event: Event) -> None:
        pass

    @bus.on("shared", name="flaky")
    async def flaky(event: Event, delivery: Delivery) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        if event.payload["failures"] >= delivery.attempt:
            raise ValueError("not yet")

    @bus.on("long", name="long", timeout=60.0)
    async def long(event: Event) -> None:
        await asyncio.sleep(2 * lease)

    @bus.on("committed", name="committed")
    async def committed(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            tx.emit("plain", {"parent": event.id}, ordering_key=event.ordering_key)


async def emit(bus: OutboxEventBus, rate: float, stopping: asyncio.Event) -> None:
    """Emit events at a rate: one by one, several at once, delayed, in transactions, and repeated after a timeout.

    Some groups have ordering keys. Such events cannot be delayed.
    """
    while rate > 0 and not stopping.is_set():
        started = time.monotonic()
        has_keys = random.random() < KEYED
        made = [
            Event(kind, {"failures": random.randint(0, 2)}, ordering_key=_key(kind) if has_keys else None)
            for kind in _kinds(random.randint(1, 10))
        ]
        if random.random() < REPEATED:
            await emit_impatiently(bus, made)
        else:
            await emit_somehow(bus, made, delay=None if has_keys else random.choice([None, None, 0.5]))
        seconds = max(len(made) / rate - (time.monotonic() - started), 0.01)
        try:
            await asyncio.wait_for(stopping.wait(), seconds)
        except TimeoutError:
            continue


async def emit_impatiently(bus: OutboxEventBus, events: list[Event]) -> None:
    """Emit with a short timeout, and emit the same events once or twice more, perhaps in another way."""
    for patience in random.choice([(0.0, None), (0.05, None), (1.0, None), (0.02, 0.5, None)]):
        try:
            async with asyncio.timeout(patience):
                await emit_somehow(bus, events, delay=None, if_exists=random.choice(["raise", "ignore"]))
        except TimeoutError:
            await asyncio.sleep(random.choice([0.0, random.uniform(0, 0.5)]))


async def emit_somehow(
    bus: OutboxEventBus, events: list[Event], *, delay: float | None, if_exists: IfExists = "raise"
) -> None:
    """Emit events as a list, one by one, each from two tasks at once, or in a transaction.

    The recorder records the results: acknowledged, refused or unknown.
    """
    match random.choice(["list", "apart", "apart", "twice", "transaction"]):
        case "list":
            with suppress(OutboxError):
                await bus.emit_many(events, delay=delay, if_exists=if_exists)
        case "transaction":
            with suppress(OutboxError):
                async with bus.transaction() as tx:
                    for event in events:
                        tx.emit(event, delay=delay)
        case way:
            emits = [
                bus.emit(event, delay=delay, if_exists=if_exists)
                for event in events
                for _ in range(2 if way == "twice" else 1)
            ]
            results = await asyncio.gather(*emits, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, OutboxError):
                    raise result


def _kinds(count: int) -> list[str]:
    return random.choices(TYPES, weights=(60, 30, 2, 8), k=count)


def _key(kind: str) -> str | None:
    """Draw a key, of which few are frequent. A long event would hold its key up for seconds."""
    weights = [1 / (number + 1) for number in range(len(KEYS))]
    return None if kind == "long" else random.choices(KEYS, weights)[0]


async def sample(recorder: Recorder, client: Any) -> None:
    """Record the memory, tasks and connections of this process once a second."""
    process = psutil.Process()
    while True:
        recorder.write(
            Sampled(
                at=recorder.now(),
                worker=recorder.worker,
                memory=process.memory_info().rss,
                tasks=len(asyncio.all_tasks()),
                connections=connections_in_use(client),
            )
        )
        await asyncio.sleep(1)


if __name__ == "__main__":
    logging.getLogger("dynamodb_outbox").setLevel(logging.CRITICAL)
    asyncio.run(live(Orders(**json.loads(sys.argv[1]))))
