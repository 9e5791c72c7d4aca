"""The handlers of the worker processes; a test asks for them by the names of these functions."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from dynamodb_outbox import Delivery, Event, LeaseLostError, OutboxEventBus
from tests.processes.history import Note


def increment(table_name: str, counter: str = "counter") -> dict[str, Any]:
    """The arguments that add 1 to a counter of a table."""
    return {"TableName": table_name, "Key": {"id": {"S": counter}}, "UpdateExpression": "ADD n :one"} | {
        "ExpressionAttributeValues": {":one": {"N": "1"}}
    }


def sleeping(
    bus: OutboxEventBus, note: Note, client: Any, *, seconds: float = 0.0, timeout: float | None = None
) -> None:
    """Takes some time."""

    @bus.on("t", name="sleeping", timeout=timeout)
    async def handler(event: Event) -> None:
        note("start", id=event.id)
        await asyncio.sleep(seconds)
        note("end", id=event.id)


def counting(bus: OutboxEventBus, note: Note, client: Any, *, table_name: str, seconds: float) -> None:
    """Adds 1 to the counter of the event's type, and takes some time before it and after it."""

    @bus.on("inside", name="inside")
    async def in_transaction(event: Event, delivery: Delivery) -> None:
        note("start", id=event.id)
        await asyncio.sleep(seconds)
        async with delivery.transaction() as tx:
            tx.update(**increment(table_name, "inside"))
        await asyncio.sleep(seconds)
        note("end", id=event.id)

    @bus.on("outside", name="outside")
    async def by_itself(event: Event) -> None:
        note("start", id=event.id)
        await asyncio.sleep(seconds)
        await client.update_item(**increment(table_name, "outside"))
        note("effect", id=event.id)
        await asyncio.sleep(seconds)
        note("end", id=event.id)


def steady_and_flaky(
    bus: OutboxEventBus, note: Note, client: Any, *, failures: int, second_backoff: float = 0.1
) -> None:
    """Two handlers of one type, one of which fails a number of times."""

    @bus.on("t", name="steady")
    async def steady(event: Event) -> None:
        note("steady", id=event.id)

    @bus.on("t", name="flaky", backoff=lambda attempt, error: second_backoff if attempt == 2 else 0.1)
    async def flaky(event: Event, delivery: Delivery) -> None:
        note("flaky", id=event.id, attempt=delivery.attempt)
        if delivery.attempt <= failures:
            raise ValueError("not yet")


def blocking(
    bus: OutboxEventBus, note: Note, client: Any, *, table_name: str, in_transaction: bool, let_go: str
) -> None:
    """Holds up the event loop in the first attempt until a file is there.

    Then it adds 1 to a counter in a transaction, or just returns.
    """

    @bus.on("t", name="blocking")
    async def handler(event: Event, delivery: Delivery) -> None:
        async def count() -> None:
            try:
                async with delivery.transaction() as tx:
                    tx.update(**increment(table_name))
            except LeaseLostError:
                note("count", refused=True)
            else:
                note("count", refused=False)

        note("start", id=event.id, attempt=delivery.attempt)
        while delivery.attempt == 1 and not Path(let_go).exists():  # noqa: ASYNC240 - this is the mistake
            time.sleep(0.02)  # noqa: ASYNC251 - likewise
        note("act", id=event.id, attempt=delivery.attempt)
        if in_transaction:
            # It is cancelled by now, for it is late; the transaction is sent all the same.
            await asyncio.shield(asyncio.create_task(count()))


def deadly(bus: OutboxEventBus, note: Note, client: Any) -> None:
    """Kills its own process for events of one type; those of another are harmless."""

    @bus.on("poison", name="deadly")
    async def handler(event: Event, delivery: Delivery) -> None:
        note("start", id=event.id, attempt=delivery.attempt)
        os.kill(os.getpid(), signal.SIGKILL)

    sleeping(bus, note, client)
