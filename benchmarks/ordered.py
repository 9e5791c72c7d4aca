"""Measures events with ordering keys, from the emit to the completion: their write units, and their CPU."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from benchmarks import accounting, delivering
from benchmarks.accounting import Units
from benchmarks.backend import Clients, new_table
from benchmarks.comparison import Run
from benchmarks.delivering import BATCH_SIZE, CONCURRENCY, Counting, with_baseline
from benchmarks.measure import Measure
from benchmarks.payloads import TYPE, events, ordered_events
from benchmarks.recording import RecordingClient
from benchmarks.units import Projection
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode

BUSY: Final = 10
"""The events of a busy key. The queue of a key has room for as many without a second list."""
COUNTED: Final = 5
"""The keys of a count of units, and the events of each of them if it is busy."""
WAYS: Final[tuple[tuple[WriteMode, Projection], ...]] = (("single", "ALL"), ("batch", "ALL"), ("batch", "KEYS_ONLY"))


async def units(client: Any) -> dict[str, Units]:
    """Count the units of events with a key: claimed on emit, polled, and emitted while the key has work."""
    found: dict[str, Units] = {}
    for mode, projection in WAYS:
        (one_each,) = ordered_events(COUNTED)
        kind = f"{projection}, {mode}"
        found[f"with a key, claimed on emit, {kind}"] = await accounting.on_emit(
            client, one_each, mode=mode, projection=projection
        )
        polled = await accounting.polled(client, *ordered_events(COUNTED), mode=mode, projection=projection)
        found[f"with a key, polled, {kind}"] = polled
        several = await accounting.polled(
            client, *ordered_events(COUNTED, of_key=COUNTED), mode=mode, projection=projection
        )
        found[f"with a key, busy, {kind}"] = _added(several, polled)
    return found


def _added(several: Units, one: Units) -> Units:
    """Return what each event adds that is emitted while the first event of its key waits."""

    def added(figure: Callable[[Units], float]) -> float:
        return round((figure(several) * COUNTED - figure(one)) / (COUNTED - 1), 6)

    return Units(
        emit=added(lambda each: each.emit),
        deliver=added(lambda each: each.deliver),
        read=added(lambda each: each.read),
        by=several.by,
    )


PROMISED: Final = "emit_many and deliver, each with a key"


def flows(clients: Clients, *, count: int) -> dict[str, Callable[[], Awaitable[Run]]]:
    """List measurements of events from their emit to their completion, by their names."""
    return {
        "emit_many and deliver, without a key": lambda: emit_and_deliver(clients, events(count)),
        PROMISED: lambda: emit_and_deliver(clients, *ordered_events(count)),
        f"emit_many and deliver, {BUSY} of each key": lambda: emit_and_deliver(
            clients, *ordered_events(count // BUSY, of_key=BUSY)
        ),
        "deliver, on emit, each with a key": lambda: delivering.on_emit(
            clients, count=count, waiting=ordered_events(count)[0]
        ),
    }


async def emit_and_deliver(clients: Clients, *batches: Sequence[Event]) -> Run:
    """Emit batches, then deliver the events; the baseline makes the same requests."""
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours)
    count = sum(map(len, batches))
    handler = Counting(count)
    outbox = DynamoDBOutbox(
        recorder,
        table_name=ours,
        conditional_writes="batch",
        batch_size=BATCH_SIZE,
        concurrency=CONCURRENCY,
        window=False,
    )
    bus = OutboxEventBus(outbox)
    bus.on(TYPE, handler, name="count")
    with Measure() as measured:
        for batch in batches:
            await bus.emit_many(batch)
        async with bus:
            await handler.done.wait()
    return await with_baseline(clients, recorder.recording, measured, count=count, source=ours, target=target)
