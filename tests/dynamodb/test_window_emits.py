"""Events that are claimed on emit and stored in a window: what is stored, and which requests are sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import (
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    OutboxEventBus,
    PartialPublishError,
)
from dynamodb_outbox.dynamodb.conditional.probe import WriteMode
from dynamodb_outbox.dynamodb.items.codec import is_unlisted
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.outcome import Released
from reliability.proxy import Proxy
from tests.backends import open_client
from tests.dynamodb.windows import WAYS, Desk, keeping_leases, order, written

PENDING, PROCESSING, COMPLETED, FAILED, *_ = (str(status) for status in EventStatus)
NEW = "attribute_not_exists(id)"
NEW_OR_VOID = "attribute_not_exists(id) OR #status = :void"


@pytest.mark.parametrize("way", WAYS)
async def test_event_is_stored_in_the_window_and_in_no_index(inserting: Desk, way: str) -> None:
    events = [order() for _ in range(3)]
    await WAYS[way](inserting, *events)
    assert inserting.window.open_count == 3
    for event in events:
        claim, item = inserting.claims[event.id], await inserting.item(event)
        assert set(item) == {
            *("id", "type", "payload", "occurredAt", "status", "retryCount"),
            *("claimToken", "claimedBy", "startedOn", "window"),
        }
        assert item["status"] == {"S": PROCESSING}
        assert item["claimToken"] == {"S": claim.token}
        assert item["window"] == {"S": inserting.window.name}
        assert claim.shared_lease is inserting.window.lease
        assert claim.lease_expires_at == inserting.window.lease.expires_at
    assert await inserting.outbox.claim(10) == []
    assert await inserting.settle(*events) == [None] * 3
    assert inserting.window.open_count == 0
    assert {(await inserting.item(event))["status"]["S"] for event in events} == {COMPLETED}


async def test_without_inserts_events_enter_the_window_one_by_one(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes="single")
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        proxy.requests.clear()
        alone, *together = [order() for _ in range(4)]
        await desk.emit(alone)
        await desk.emit(*together)
        assert written(proxy) == {"PutItem": 4}
        assert desk.window.open_count == 4
        for event in [alone, *together]:
            assert is_unlisted(await desk.item(event))


async def test_window_works_on_each_backend(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
        await emit_and_settle(outbox, client)


async def emit_and_settle(outbox: DynamoDBOutbox, client: Any) -> None:
    async with keeping_leases(outbox, client) as desk:
        events = [order() for _ in range(30)]
        await desk.emit(events[0])
        await desk.emit(*events[1:])
        assert is_unlisted(await desk.item(events[0]))
        assert is_unlisted(await desk.item(events[1]))
        assert await desk.settle(*events) == [None] * 30
        assert desk.window.open_count == 0
        items = [await desk.item(event) for event in events]
    assert {item["status"]["S"] for item in items} == {COMPLETED}


async def test_group_is_inserted_and_other_events_of_the_chunk_are_not(inserting: Desk, proxy: Proxy) -> None:
    numbered = [order() for _ in range(3)]
    event_ids.forget()
    random = [order() for _ in range(2)]
    await inserting.emit(*numbered, *random)
    assert written(proxy) == {"BatchExecuteStatement": 1, "BatchWriteItem": 1}
    assert [is_unlisted(await inserting.item(event)) for event in [*numbered, *random]] == [True] * 3 + [False] * 2
    assert set(inserting.claims) >= {event.id for event in [*numbered, *random]}


async def test_numbered_events_that_are_not_claimed_are_inserted_too(inserting: Desk, proxy: Proxy) -> None:
    events = [order() for _ in range(3)]
    await inserting.outbox.publish(events)
    await inserting.outbox.publish([single := order()])
    assert written(proxy) == {"BatchExecuteStatement": 1, "PutItem": 1}
    (put,) = proxy.of("PutItem")
    assert put["ConditionExpression"] == NEW_OR_VOID
    assert {claim.event.id for claim in await inserting.outbox.claim(10)} == {each.id for each in [*events, single]}


@pytest.mark.parametrize("mode", ["auto", "batch", "single"])
async def test_numbered_events_replace_no_item_though_no_window_was_opened(
    client: Any, table_name: str, mode: WriteMode
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes=mode)
    await outbox.create_table()
    event_ids.start_numbering()
    events = [order() for _ in range(3)]
    of_a_copied_machine = {"id": {"S": events[0].id}, "type": {"S": "order.paid"}}
    await client.put_item(TableName=table_name, Item=of_a_copied_machine)
    with pytest.raises(PartialPublishError) as caught:
        await outbox.publish(events)
    assert caught.value.causes.keys() == {events[0].id}
    reply = await client.get_item(TableName=table_name, Key={"id": {"S": events[0].id}}, ConsistentRead=True)
    assert reply["Item"] == of_a_copied_machine


async def test_event_of_each_kind_of_value_survives_an_insert(inserting: Desk) -> None:
    payload = {"it's": [1, None, {"a": b"\x00"}, {"x", "y"}], '"': "'", "?": True}
    events = [Event("order.placed", payload, metadata={"tenant": "a'b"}) for _ in range(2)]
    await inserting.emit(*events)
    for event in events:
        claim = inserting.claims[event.id]
        assert claim.event == event
        await inserting.settle(event, outcome=Released())
    assert {claim.event.id: claim.event.payload for claim in await inserting.outbox.claim(5)} == {
        event.id: payload for event in events
    }


@pytest.mark.parametrize("beyond", ["end", "start", "closed", "lease"])
async def test_event_that_the_window_does_not_cover_is_stored_in_the_index(desk: Desk, beyond: str) -> None:
    events = [order() for _ in range(3)]
    window = desk.window
    last = events[-1].id_number
    assert last is not None
    match beyond:
        case "end":
            window.end = last.number - 2
        case "start":
            window.start = last.number + 1
        case "closed":
            window.is_closed = True
        case "lease":
            window.lease.ends = 0.0
    await desk.emit(events[0])
    await desk.emit(*events[1:])
    for event in events:
        item = await desk.item(event)
        assert item["status"] == {"S": PROCESSING}
        assert "gsiSortKey" in item
        assert "window" not in item
        assert desk.claims[event.id].shared_lease is None


async def test_ids_of_users_are_stored_in_the_index(desk: Desk, proxy: Proxy) -> None:
    events = [Event("order.placed", id=f"order-{n}") for n in range(3)]
    await desk.emit(events[0])
    await desk.emit(*events[1:])
    assert all(["gsiSortKey" in await desk.item(event) for event in events])
    assert {put["ConditionExpression"] for put in proxy.of("PutItem")} == {NEW_OR_VOID}
    with pytest.raises(DuplicateEventError) as caught:
        await desk.emit(Event("order.placed", id="order-0"))
    assert caught.value.stored == events[0]


async def test_event_that_is_emitted_twice_is_a_duplicate(desk: Desk) -> None:
    event = order()
    await desk.emit(event)
    bus = OutboxEventBus(desk.outbox)
    with pytest.raises(DuplicateEventError):
        await bus.emit(event)
    again = await bus.emit(event, if_exists="ignore")
    assert again.already_stored
    assert is_unlisted(await desk.item(event))
    assert desk.window.open_count == 1


async def test_window_can_be_switched_off(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, window=False)
    await outbox.create_table()
    async with keeping_leases(outbox, client, opened=False) as desk:
        proxy.requests.clear()
        events = [order() for _ in range(60)]
        await desk.emit(events[0])
        await desk.emit(*events[1:])
        await asyncio.sleep(0.1)
        assert written(proxy) == {"PutItem": 1, "BatchWriteItem": 3}
        assert desk.current is None
        assert all(event.id_number is None for event in [*events, order()])
        assert all(["gsiSortKey" in await desk.item(event) for event in events])
