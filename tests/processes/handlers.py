"""The handlers of the worker processes; a test asks for them by the names of these functions."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from dynamodb_outbox import Delivery, Event, LeaseLostError, OutboxEventBus
from reliability.recording import Recorder
from tests.processes.program import die


def increment(table_name: str, counter: str = "counter") -> dict[str, Any]:
    """The arguments that add 1 to a counter of a table."""
    return {"TableName": table_name, "Key": {"id": {"S": counter}}, "UpdateExpression": "ADD n :one"} | {
        "ExpressionAttributeValues": {":one": {"N": "1"}}
    }


def sleeping(
    bus: OutboxEventBus, recorder: Recorder, client: Any, *, seconds: float = 0.0, timeout: float | None = None
) -> None:
    """Takes some time."""

    @bus.on("order.placed", name="sleeping", timeout=timeout)
    async def handler(event: Event) -> None:
        await asyncio.sleep(seconds)


def waiting(bus: OutboxEventBus, recorder: Recorder, client: Any, *, let_go: str) -> None:
    """Waits until a file is there."""

    @bus.on("order.placed", name="waiting")
    async def handler(event: Event) -> None:
        while not Path(let_go).exists():  # noqa: ASYNC240 - of a few microseconds
            await asyncio.sleep(0.02)


def counting(bus: OutboxEventBus, recorder: Recorder, client: Any, *, table_name: str, seconds: float) -> None:
    """Adds 1 to the counter of the event's type, and takes some time before it and after it."""

    @bus.on("inside", name="inside")
    async def in_transaction(event: Event, delivery: Delivery) -> None:
        await asyncio.sleep(seconds)
        async with delivery.transaction() as tx:
            tx.update(**increment(table_name, "inside"))
        await asyncio.sleep(seconds)

    @bus.on("outside", name="outside")
    async def by_itself(event: Event) -> None:
        await asyncio.sleep(seconds)
        await client.update_item(**increment(table_name, "outside"))
        recorder.note("effect", event_id=event.id)
        await asyncio.sleep(seconds)


def steady_and_flaky(
    bus: OutboxEventBus, recorder: Recorder, client: Any, *, failures: int, second_backoff: float = 0.1
) -> None:
    """Two handlers of one type, one of which fails a number of times."""

    @bus.on("order.placed", name="steady")
    async def steady(event: Event) -> None:
        pass

    @bus.on("order.placed", name="flaky", backoff=lambda attempt, error: second_backoff if attempt == 2 else 0.1)
    async def flaky(event: Event, delivery: Delivery) -> None:
        if delivery.attempt <= failures:
            raise ValueError("not yet")


def blocking(
    bus: OutboxEventBus, recorder: Recorder, client: Any, *, table_name: str, in_transaction: bool, let_go: str
) -> None:
    """Holds up the event loop in the first attempt until a file is there.

    Then it adds 1 to a counter in a transaction, or just returns.
    """

    @bus.on("order.placed", name="blocking")
    async def handler(event: Event, delivery: Delivery) -> None:
        async def count() -> None:
            try:
                async with delivery.transaction() as tx:
                    tx.update(**increment(table_name))
            except LeaseLostError:
                recorder.note("refused", event_id=event.id)
            else:
                recorder.note("counted", event_id=event.id)

        while delivery.attempt == 1 and not Path(let_go).exists():  # noqa: ASYNC240 - this is the mistake
            time.sleep(0.02)  # noqa: ASYNC251 - likewise
        recorder.note(f"act {delivery.attempt}", event_id=event.id)
        if in_transaction:
            # It is cancelled by now, for it is late; the transaction is sent all the same.
            await asyncio.shield(asyncio.create_task(count()))


def deadly(bus: OutboxEventBus, recorder: Recorder, client: Any) -> None:
    """Kills its own process for events of one type; those of another are harmless."""

    @bus.on("poison", name="deadly")
    async def handler(event: Event, delivery: Delivery) -> None:
        die(recorder)

    sleeping(bus, recorder, client)


def ordered(bus: OutboxEventBus, recorder: Recorder, client: Any, *, seconds: float) -> None:
    """Takes some time. Fails once for some events, and emits an event of another key for some."""

    @bus.on("order.placed", name="ordered")
    async def handler(event: Event, delivery: Delivery) -> None:
        await asyncio.sleep(seconds)
        if event.payload["fails"] and delivery.attempt == 1:
            raise ValueError("not yet")
        if child_key := event.payload["child_key"]:
            await delivery.emit("order.placed", {"fails": False, "child_key": None}, ordering_key=child_key)
