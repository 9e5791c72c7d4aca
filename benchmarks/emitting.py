"""Measures emits: one by one, by 100 concurrent emitters, and many in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from benchmarks import baseline
from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.measure import Measure, Usage
from benchmarks.payloads import events, prepared_items
from benchmarks.recording import Recording, RecordingClient, Request
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.dynamodb.conditional.insert import insert_statement
from dynamodb_outbox.event_ids import event_ids

EMITTERS: Final = 100


async def one(clients: Clients, *, count: int) -> Run:
    """Emit one event after the other; the baseline makes the same PutItem calls."""

    async def emit(bus: OutboxEventBus, waiting: Sequence[Event]) -> None:
        for event in waiting:
            await bus.emit(event)

    return await _compared(clients, emit, count=count)


async def concurrently(clients: Clients, *, count: int) -> Run:
    """Emit with 100 concurrent emitters; the baseline makes the same requests."""
    return await _compared(clients, _emit_concurrently, count=count)


async def concurrently_against_puts(clients: Clients, *, count: int) -> Run:
    """Emit with 100 concurrent emitters; the baseline makes one PutItem call per event, as without group commit."""
    return await _compared(clients, _emit_concurrently, count=count, one_put_each=True)


async def many(clients: Clients, *, count: int, payload: dict[str, Any] | None = None) -> Run:
    """Emit all events in one call; the baseline makes the same batch calls, with prepared items."""

    async def emit(bus: OutboxEventBus, waiting: Sequence[Event]) -> None:
        await bus.emit_many(waiting)

    return await _compared(clients, emit, count=count, payload=payload)


async def _emit_concurrently(bus: OutboxEventBus, waiting: Sequence[Event]) -> None:
    left = iter(waiting)

    async def emitter() -> None:
        for event in left:
            await bus.emit(event)

    await asyncio.gather(*(emitter() for _ in range(EMITTERS)))


async def _compared(
    clients: Clients, emit: Any, *, count: int, payload: dict[str, Any] | None = None, one_put_each: bool = False
) -> Run:
    # A process that only emits has no window, and random ids. A benchmark before this one may have opened a window.
    event_ids.forget()
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours, kept=_without_items)
    bus = OutboxEventBus(DynamoDBOutbox(recorder, table_name=ours))
    waiting = events(count, payload)
    with Measure() as measured:
        await emit(bus, waiting)
    items = prepared_items(waiting)
    if one_put_each:
        usage = await puts(clients.bare, items, table=target)
    else:
        usage = await baseline.replayed(clients.bare, _with_items(recorder.recording, items, table=target))
    await drop_table(clients.ours, ours)
    await drop_table(clients.ours, target)
    return Run(events=count, ours=measured.usage, baseline=usage, requests=len(recorder.recording.requests))


def _without_items(arguments: dict[str, Any]) -> dict[str, Any]:
    """Replace the items of a request by their number, because the library does not keep stored items either."""
    if "Item" in arguments:
        return {**arguments, "Item": 1}
    if "Statements" in arguments:
        return {**arguments, "Statements": len(arguments["Statements"])}
    (writes,) = arguments["RequestItems"].values()
    return {**arguments, "RequestItems": len(writes)}


def _with_items(recording: Recording, items: Sequence[dict[str, Any]], *, table: str) -> Recording:
    """Return the same requests for another table, with prepared items. Raises `BaselineError` if items remain."""
    left = iter(items)

    def arguments(kept: dict[str, Any]) -> dict[str, Any]:
        if "Item" in kept:
            return {**kept, "TableName": table, "Item": next(left)}
        if "Statements" in kept:
            inserted = islice(left, kept["Statements"])
            return {**kept, "Statements": [insert_statement(item, table_name=table) for item in inserted]}
        writes = [{"PutRequest": {"Item": item}} for item in islice(left, kept["RequestItems"])]
        return {**kept, "RequestItems": {table: writes}}

    requests = [Request(each.operation, arguments(each.arguments), each.after) for each in recording.requests]
    if any(True for _ in left):
        raise baseline.BaselineError("the library stored fewer items than there are events")
    return Recording(requests, recording.ended)


async def puts(client: Any, items: Sequence[dict[str, Any]], *, table: str) -> Usage:
    """Put prepared items one by one, like 100 emitters without group commit."""
    calls = (
        client.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(id)") for item in items
    )
    return await baseline.in_parallel(calls, width=EMITTERS)


async def stored(client: Any, items: Sequence[dict[str, Any]], *, table: str) -> None:
    """Store prepared items in batches, outside of the measurement."""
    calls = (
        client.batch_write_item(
            RequestItems={table: [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]}
        )
        for start in range(0, len(items), 25)
    )
    await baseline.in_parallel(calls, width=4)
