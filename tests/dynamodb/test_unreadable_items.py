"""Items that other writers have stored: the unreadable ones become FAILED, the others are delivered."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.units import item_bytes
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus, StoredEventError
from dynamodb_outbox.dynamodb.items.codec import MAX_ITEM_BYTES, SHORT_ERROR_CHARS
from tests.timing import set_timing


async def test_unreadable_item_is_failed_and_the_others_are_delivered(local_client: Any, table_name: str) -> None:
    errors: list[Any] = []
    outbox = DynamoDBOutbox(local_client, table_name=table_name, on_error=errors.append, poll_interval=0.05)
    await outbox.create_table()
    pending = {"status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}}
    for broken in (
        {"id": {"S": "no-type"}, "payload": {"M": {}}, "occurredAt": {"S": "2026-01-01T00:00:00Z"}},
        {"id": {"S": "no-payload"}, "type": {"S": "order.placed"}, "occurredAt": {"S": "2026-01-01T00:00:00Z"}},
        {
            "id": {"S": "bad-time"},
            "type": {"S": "order.placed"},
            "payload": {"M": {}},
            "occurredAt": {"S": "yesterday"},
        },
        {"id": {"S": "odd"}, "type": {"N": "1"}, "payload": {"L": []}, "occurredAt": {"S": ""}},
    ):
        await local_client.put_item(TableName=table_name, Item=broken | pending)
    bus = OutboxEventBus(outbox)
    handled: list[Event] = []

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        handled.append(event)

    async with bus:
        await bus.emit("order.placed", {"n": 1})
        await bus.drain(60)
    assert len(handled) == 1
    failed = {event.id: event for event in await bus.get_failed_events()}
    assert failed.keys() == {"no-type", "no-payload", "bad-time", "odd"}
    assert "the attribute 'payload' is missing" in failed["no-payload"].last_error
    assert {error.event_id for error in errors if isinstance(error, StoredEventError)} == failed.keys()


async def test_unreadable_item_without_room_for_its_error_is_failed_with_a_shorter_one(
    local_client: Any, table_name: str
) -> None:
    # A time has fewer bytes when its last digits are zeros.
    clock = 1_790_000_000.123
    outbox = DynamoDBOutbox(local_client, table_name=table_name, on_error=lambda error: None, clock=lambda: clock)
    await outbox.create_table()

    async def failed_item(event_id: str, filler: int) -> dict[str, Any]:
        item = {
            "type": {"S": "order.placed"},
            "status": {"S": "PENDING"},
            "gsiSortKey": {"N": "1"},
            "filler": {"S": "x" * filler},
        }
        await local_client.put_item(TableName=table_name, Item={"id": {"S": event_id}, **item})
        assert await outbox.claim(1) == []
        reply = await local_client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
        assert reply["Item"]["status"] == {"S": "FAILED"}
        stored: dict[str, Any] = reply["Item"]
        return stored

    small = await failed_item("e1", 0)
    whole = small["lastError"]["S"]
    room = MAX_ITEM_BYTES - item_bytes(small) + len(whole)
    assert len(whole) > SHORT_ERROR_CHARS + 20
    assert (await failed_item("e2", room - len(whole)))["lastError"] == {"S": whole.replace("e1", "e2")}
    cut = (await failed_item("e3", room - SHORT_ERROR_CHARS - 10))["lastError"]["S"]
    assert cut == whole.replace("e1", "e3")[: SHORT_ERROR_CHARS - 1] + "…"


async def test_report_of_an_unreadable_item_reaches_the_bus_and_delays_no_other_event(
    local_client: Any, table_name: str
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name, poll_interval=0.05, claim_on_emit=False)
    await outbox.create_table()
    broken = {"id": {"S": "no-type"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}}
    await local_client.put_item(TableName=table_name, Item=broken)
    told: list[Exception] = []
    handled: list[Event] = []

    async def never_return(error: Exception) -> None:
        told.append(error)
        await asyncio.Event().wait()

    bus = OutboxEventBus(outbox, on_error=never_return)
    set_timing(bus, report_seconds=0.1)

    @bus.on("order.placed")
    async def handler(event: Event) -> None:
        handled.append(event)

    async with asyncio.timeout(60), bus:
        while not told:
            await asyncio.sleep(0.01)
        await bus.emit("order.placed", {"n": 1})
        await bus.drain(30)
    assert len(handled) == 1
    assert [type(error) for error in told] == [StoredEventError]


async def test_items_of_other_writers_are_read(local_client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    await local_client.put_item(
        TableName=table_name,
        Item={
            "id": {"S": "e"},
            "type": {"S": "order.placed"},
            "payload": {"M": {"n": {"N": "1"}}},
            "occurredAt": {"S": "2024-01-02T03:04:05.678Z"},
            "status": {"S": "PENDING"},
            "gsiSortKey": {"N": "1"},
        },
    )
    (claim,) = await outbox.claim(1)
    assert (claim.attempt, claim.event.payload) == (1, {"n": 1})
    assert claim.event.occurred_at.isoformat() == "2024-01-02T03:04:05.678000+00:00"
    await local_client.update_item(
        TableName=table_name,
        Key={"id": {"S": "e"}},
        UpdateExpression="SET gsiSortKey = :past",
        ExpressionAttributeValues={":past": {"N": "5"}},
    )
    assert (await outbox.recover()).reset == ("e",)
    assert (await outbox.claim(1))[0].attempt == 2
