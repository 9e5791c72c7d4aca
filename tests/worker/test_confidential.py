"""Exceptions and logs name types, ids and parameters; what a payload holds is in none of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    HandlerError,
    HandlerStuckError,
    HandlerTimeoutError,
    InMemoryOutbox,
    LoopBlockedError,
    OutboxError,
    OutboxEventBus,
    Reject,
    Transaction,
)
from tests.virtual_time import VirtualTime

SECRET = "4111-1111"
PAYLOAD = {"card": SECRET, "cvc": SECRET * 1000, "holder": SECRET}


@dataclass
class Card:
    number: str = SECRET


def events(payload: Any) -> list[Any]:
    """What is given in the place of an event, of a payload that nobody may see."""
    return [payload, [payload], Card(), (SECRET,), SECRET.encode(), Event("card.charged", payload)]


async def emit_as_type(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit(value, id="", occurred_at=None)


async def emit_many(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit_many([[value], value])


async def emit_id(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit("card.charged", id=value)


async def emit_occurred_at(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit("card.charged", occurred_at=value)


async def emit_deliver_at(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit("card.charged", deliver_at=value)


async def emit_metadata(bus: OutboxEventBus, value: Any) -> None:
    await bus.emit("card.charged", metadata=[value])  # type: ignore[arg-type]


async def retry_events(bus: OutboxEventBus, value: Any) -> None:
    await bus.retry_events([value])


async def delivery_emit(bus: OutboxEventBus, value: Any) -> None:
    await delivery().emit(value if not isinstance(value, str) else "")


async def delivery_key(bus: OutboxEventBus, value: Any) -> None:
    await delivery().emit("card.charged", key=value)


async def delivery_metadata(bus: OutboxEventBus, value: Any) -> None:
    await delivery().emit("card.charged", metadata=[value])  # type: ignore[arg-type]


def delivery() -> Delivery:
    return Delivery(Event("card.charged"), attempt=1, max_attempts=1, handler="h", backend=None, emit=None)  # type: ignore[arg-type]


def tx(call: Callable[[Transaction, Any], None]) -> Callable[[OutboxEventBus, Any], Any]:
    async def calls(bus: OutboxEventBus, value: Any) -> None:
        async with bus.transaction() as transaction:
            call(transaction, value)

    return calls


TRANSACTIONS = {
    "tx.emit": tx(lambda tx, value: [tx.emit(value, id="")]),
    "tx.put item": tx(lambda tx, value: tx.put(TableName="cards", Item=[value])),
    "tx.put table": tx(lambda tx, value: tx.put(TableName=value, Item={})),
    "tx.update key": tx(lambda tx, value: tx.update(TableName="cards", Key=[value], UpdateExpression="SET a = :a")),
    "tx.update": tx(lambda tx, value: tx.update(TableName="cards", Key={}, UpdateExpression=value)),
    "tx.check": tx(lambda tx, value: tx.check(TableName="cards", Key={}, ConditionExpression=value)),
    "tx.delete": tx(lambda tx, value: tx.delete(TableName="cards", Key={}, ExpressionAttributeValues=[value])),
    "tx.put names": tx(
        lambda tx, value: tx.put(TableName="cards", Item={}, ExpressionAttributeNames={"#card": value, "#id": "id"})
    ),
    "tx.put return values": tx(
        lambda tx, value: tx.put(TableName="cards", Item={}, ReturnValuesOnConditionCheckFailure=value)
    ),
    "tx.put mixed": tx(lambda tx, value: tx.put(TableName="cards", Item={"a": {"S": SECRET}, "b": [value]})),
    "tx.put unstorable": tx(lambda tx, value: tx.put(TableName="cards", Item={"a": [value, object()]})),
}
CALLS: dict[str, Callable[[OutboxEventBus, Any], Any]] = {
    call.__name__: call
    for call in (
        emit_as_type,
        emit_many,
        emit_id,
        emit_occurred_at,
        emit_deliver_at,
        emit_metadata,
        retry_events,
        delivery_emit,
        delivery_key,
        delivery_metadata,
    )
} | TRANSACTIONS


@pytest.mark.parametrize("value", events(PAYLOAD), ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("call", CALLS)
async def test_refused_value_is_described_and_not_shown(call: str, value: Any) -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    with pytest.raises(OutboxError) as caught:
        await CALLS[call](bus, value)
    text = str(caught.value)
    assert SECRET not in text
    assert SECRET not in repr(caught.value)
    assert len(text) < 600


@pytest.mark.parametrize(
    ("value", "described"),
    [
        ({"a": 1}, "a dict with 1 key"),
        ({"a": 1, "b": 2}, "a dict with 2 keys"),
        ([1, 2], "a list of 2"),
        ((1,), "a tuple of 1"),
        (b"123", "a bytes of length 3"),
        (5, "an int"),
        (Card(), "Card"),
        (None, "None"),
    ],
)
async def test_refused_event_is_described_by_its_type_and_size(value: Any, described: str) -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    for call in (bus.emit(value), bus.emit_many([value])):
        with pytest.raises(OutboxError, match=rf"\b{described}\b"):
            await call


async def test_name_of_a_payload_is_shown_in_part_only() -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    for name in ("a" * 10_000, "not an identifier " * 1000):
        with pytest.raises(OutboxError) as caught:
            await bus.emit("card.charged", {name: object()})
        assert len(str(caught.value)) < 700


def test_event_is_printed_without_what_it_carries() -> None:
    event = Event("user.created", PAYLOAD, id="e", metadata={"token": SECRET})
    assert repr(event).startswith("Event(type='user.created', id='e', occurred_at=")
    assert SECRET not in repr(event)


# What handlers do


@pytest.fixture
def errors() -> list[Any]:
    return []


@pytest.fixture
def bus(errors: list[Any]) -> OutboxEventBus:
    return OutboxEventBus(InMemoryOutbox(max_retries=0, processing_timeout=3), on_error=errors.append)


async def test_error_of_a_handler_carries_its_event_and_does_not_show_it(
    bus: OutboxEventBus, errors: list[Any], virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    @bus.on("card.charged")
    async def fails(event: Event) -> None:
        raise Reject("no")

    @bus.on("card.charged")
    async def hangs(event: Event) -> None:
        await asyncio.sleep(60)

    @bus.on("card.charged", timeout=0.5)
    async def sticks(event: Event) -> None:
        while True:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                continue
            break

    @bus.on("card.charged")
    async def blocks(event: Event) -> None:
        virtual_time.pass_by(1.5)

    event = await bus.emit("card.charged", PAYLOAD, metadata={"token": SECRET})
    await bus.run_once()
    await asyncio.sleep(60)
    found = {type(error): error for error in errors}
    assert found.keys() == {HandlerError, HandlerTimeoutError, HandlerStuckError, LoopBlockedError}
    for error in found.values():
        assert error.event == event
        assert (error.event_id, error.event_type) == (event.id, "card.charged")
        assert SECRET not in f"{error} {error!r} {error.event!r}"
    logging.getLogger("test").error("failed", exc_info=found[HandlerError])
    assert SECRET not in caplog.text


async def test_dead_letter_is_printed_without_what_it_carries(bus: OutboxEventBus) -> None:
    @bus.on("card.charged")
    async def fails(event: Event) -> None:
        raise Reject("no")

    await bus.emit("card.charged", PAYLOAD, metadata={"token": SECRET})
    await bus.run_once()
    (failed,) = await bus.get_failed_events()
    assert failed.payload == PAYLOAD
    assert SECRET not in repr(failed)
