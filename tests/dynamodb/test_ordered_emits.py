"""Emits of events with ordering keys: each is stored, then its queue lists it, in the order of the emits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from benchmarks.units import MeteringClient
from dynamodb_outbox import (
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    EventTooLargeError,
    OutboxEventBus,
    PartialPublishError,
    StorageError,
)
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, queue_id
from reliability.proxy import refused
from tests.adapter_timing import with_timing
from tests.dynamodb.ordered import Shop, ids_of, line_of, open_shop, orders, patient, steps_of

KEY = "order-17"


@pytest.fixture
async def shop(endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(endpoint, table_name) as opened:
        yield opened


async def test_event_is_stored_in_no_index_and_its_queue_is_due(shop: Shop) -> None:
    event = await shop.bus.emit("order.paid", {"total": 9}, ordering_key=KEY)
    assert event is not None
    item, queue = await shop.item(event.id), await shop.item(queue_id(KEY))
    assert item is not None
    assert queue is not None
    assert (item["status"], item["orderingKey"]) == ({"S": "QUEUED"}, {"S": KEY})
    assert item.keys() == {"id", "type", "payload", "occurredAt", "status", "retryCount", "orderingKey"}
    assert queue["ids"] == {"L": [{"S": event.id}]}
    assert (queue["status"], queue["claimToken"]) == ({"S": "PENDING"}, {"S": NOBODY})
    assert queue["gsiSortKey"] == queue["startedOn"]
    assert steps_of(shop.proxy) == ["put", "append"]


async def test_events_of_a_key_are_listed_in_the_order_of_their_emits(shop: Shop) -> None:
    events = orders(45)
    for event in events[:24]:
        await shop.bus.emit(event)
    assert await shop.line(KEY) == ids_of(events[:24])
    # A list of several pages, ten events to an append.
    await shop.bus.emit_many(events[24:])
    assert await shop.line(KEY) == ids_of(events)
    assert [await shop.status(event) for event in events] == ["QUEUED"] * 45


async def test_keys_have_queues_of_their_own_and_events_without_a_key_have_none(shop: Shop) -> None:
    keys = ["a", "b", None, "a", "a", None, "b"]
    mixed = [Event("order.paid", {"n": n}, ordering_key=key) for n, key in enumerate(keys)]
    mixed[3:5] = [Event("order.paid", id=f"own-{n}", ordering_key="a") for n in range(2)]
    assert await shop.bus.emit_many(mixed) == mixed
    assert await shop.line("a") == ids_of([mixed[0], mixed[3], mixed[4]])
    assert await shop.line("b") == ids_of([mixed[1], mixed[6]])
    assert [await shop.status(mixed[2]), await shop.status(mixed[5])] == ["PENDING", "PENDING"]


async def test_emits_that_come_during_an_append_share_the_next_one(shop: Shop) -> None:
    events = orders(9)
    gate = asyncio.Event()
    appends = 0

    async def hold_the_first(request: Any) -> None:
        nonlocal appends
        if request.operation == "UpdateItem":
            appends += 1
            if appends == 1:
                await gate.wait()

    shop.proxy.rule = hold_the_first
    emits = [asyncio.create_task(shop.bus.emit(event)) for event in events]
    while len([step for step in steps_of(shop.proxy) if step == "append"]) < 1 or not await all_are_stored(
        shop, events
    ):
        await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*emits)
    assert sorted(await shop.line(KEY)) == sorted(ids_of(events))
    assert appends == 2


async def all_are_stored(shop: Shop, events: list[Event]) -> bool:
    return all([await shop.status(event) == "QUEUED" for event in events])


async def test_keyed_events_are_never_sent_in_a_batch_without_conditions(shop: Shop) -> None:
    await asyncio.gather(*(shop.bus.emit(event) for event in orders(12)))
    await shop.bus.emit_many(orders(30))
    assert shop.proxy.count("BatchWriteItem") == 0
    assert len(await shop.line(KEY)) == 42


@pytest.mark.parametrize("other", [{"ordering_key": "another"}, {}])
async def test_own_id_of_an_event_of_another_queue_is_refused(shop: Shop, other: dict[str, Any]) -> None:
    await shop.bus.emit("order.paid", id="own", **other)
    with pytest.raises(DuplicateEventError) as caught:
        await shop.bus.emit("order.paid", id="own", ordering_key=KEY)
    assert (caught.value.event_id, caught.value.stored and caught.value.stored.ordering_key) == (
        "own",
        other.get("ordering_key"),
    )
    assert await shop.line(KEY) == []


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "DISCARDED"])
async def test_own_id_of_an_event_that_has_left_its_queue_is_not_listed_again(shop: Shop, status: str) -> None:
    event = Event("order.paid", id="own", ordering_key=KEY)
    await shop.bus.emit(event)
    await shop.client.update_item(
        TableName=shop.outbox.table_name,
        Key={"id": {"S": "own"}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
    )
    await shop.delete(queue_id(KEY))
    with pytest.raises(DuplicateEventError):
        await shop.bus.emit(event)
    assert await shop.line(KEY) == []


async def test_own_id_that_waits_is_refused_and_keeps_its_place(shop: Shop) -> None:
    first, second = orders(2)
    await shop.bus.emit_many([first, second])
    with pytest.raises(DuplicateEventError) as caught:
        await shop.bus.emit("order.paid", id=first.id, ordering_key=KEY)
    assert caught.value.stored == first
    again = await shop.bus.emit(first, if_exists="ignore")
    assert again is not None
    assert again.already_stored
    assert await shop.line(KEY) == ids_of([first, second])


async def test_event_that_an_ended_emit_left_unlisted_is_listed_by_the_next_emit(shop: Shop) -> None:
    events = orders(3)
    await shop.bus.emit_many(events)
    await shop.delete(queue_id(KEY))
    # The process begins again, and knows the ids only.
    with pytest.raises(DuplicateEventError):
        await shop.bus.emit("order.paid", id=events[0].id, ordering_key=KEY)
    stored = await shop.bus.emit_many(events, if_exists="ignore")
    assert [event.already_stored for event in stored] == [True] * 3
    assert await shop.line(KEY) == ids_of(events)


@pytest.mark.parametrize("key", [None, "another"])
@pytest.mark.parametrize("call", ["emit", "emit_many", "transaction"])
async def test_event_that_was_left_unlisted_is_listed_by_an_emit_with_another_key(
    shop: Shop, call: str, key: str | None
) -> None:
    await shop.bus.emit("order.paid", id="twice", ordering_key=KEY)
    await shop.delete(queue_id(KEY))
    # The program emits the id with another key by now.
    again, other = Event("order.paid", id="twice", ordering_key=key), Event("order.paid", ordering_key=key)
    if call == "transaction":
        with pytest.raises(DuplicateEventError):
            async with shop.bus.transaction() as tx:
                tx.emit(again)
    else:
        events = [again, other] if call == "emit_many" else [again]
        stored = await shop.bus.emit_many(events, if_exists="ignore")
        assert (stored[0].already_stored, stored[0].ordering_key) == (True, KEY)
        assert await shop.line("another") == ids_of(events[1:] if key else [])
    assert await shop.line(KEY) == ["twice"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ThrottlingException"])
async def test_event_that_is_stored_and_not_listed_may_be_stored(shop: Shop, code: str) -> None:
    with_timing(shop.outbox, publish=0.5)
    shop.proxy.rule = lambda request: refused(code, "no") if request.operation == "UpdateItem" else None
    events = orders(3)
    with pytest.raises(StorageError, match=r"before you emit it again|may have been applied") as raised:
        await shop.bus.emit(events[0])
    assert raised.value.maybe_applied
    with pytest.raises(PartialPublishError) as many:
        await shop.bus.emit_many(events[1:])
    assert [cause.maybe_applied for cause in many.value.causes.values()] == [True, True]  # type: ignore[attr-defined]  # errors of the storage
    shop.proxy.rule = lambda request: None
    patient(shop.outbox)
    for event in events:
        await shop.bus.emit(event, if_exists="ignore")
    assert await shop.line(KEY) == ids_of(events)


async def test_event_that_is_stored_but_not_listed_is_no_duplicate_behind_one_that_fails(
    endpoint: str, table_name: str
) -> None:
    async with open_shop(endpoint, table_name, conditional_writes="single") as shop:
        first, unlisted, delivered = orders(3)
        await shop.bus.emit_many([unlisted, delivered])
        await shop.delete(queue_id(KEY))
        await shop.client.update_item(
            TableName=shop.outbox.table_name,
            Key={"id": {"S": delivered.id}},
            UpdateExpression="SET #status = :completed",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":completed": {"S": "COMPLETED"}},
        )
        shop.proxy.rule = lambda request: refused("AccessDeniedException") if first.id in str(request.body) else None
        with pytest.raises(PartialPublishError) as raised:
            await shop.bus.emit_many([first, unlisted, delivered], if_exists="ignore")
        assert unlisted in raised.value.failed
        assert not isinstance(raised.value.causes[unlisted.id], DuplicateEventError)
        assert delivered not in raised.value.failed
        shop.proxy.rule = lambda request: None
        await shop.bus.emit_many([first, unlisted, delivered], if_exists="ignore")
        assert await shop.line(KEY) == [first.id, unlisted.id]


async def test_event_that_is_too_large_is_refused_before_anything_is_sent(shop: Shop) -> None:
    small, large = orders(1)[0], Event("order.paid", "x" * 410_000, ordering_key=KEY)
    with pytest.raises(EventTooLargeError):
        await shop.bus.emit_many([small, large])
    assert shop.proxy.requests == []


async def test_emitters_that_meet_at_the_end_of_a_page_lose_no_event(local_client: Any, table_name: str) -> None:
    outboxes = [patient(DynamoDBOutbox(local_client, table_name=table_name)) for _ in range(3)]
    await outboxes[0].create_table()
    buses = [OutboxEventBus(outbox) for outbox in outboxes]
    lists = [orders(40) for _ in buses]

    async def emit_one_by_one(bus: OutboxEventBus, events: list[Event]) -> None:
        for event in events:
            await bus.emit(event)

    await asyncio.gather(*(emit_one_by_one(*pair) for pair in zip(buses, lists, strict=True)))
    line = await line_of(local_client, table_name, KEY)
    assert len(line) == 120
    for events in lists:
        own = set(ids_of(events))
        assert [each for each in line if each in own] == ids_of(events)


@pytest.mark.parametrize(("before", "units"), [(0, 3), (1, 3)])
async def test_emit_costs_three_units(local_client: Any, table_name: str, before: int, units: int) -> None:
    metering: Any = MeteringClient(local_client)
    outbox = DynamoDBOutbox(metering, table_name=table_name)
    await outbox.create_table()
    await outbox.publish(orders(before)) if before else None
    metering.start_over()
    await outbox.publish([Event("order.paid", {"text": "x" * 700}, ordering_key=KEY)])
    assert sum(metering.written.values()) == units
    assert metering.refused == 0


async def test_shard_of_a_queue_is_that_of_its_id(local_client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name, shards=4)
    await outbox.create_table()
    await outbox.publish(orders(1))
    items = (await local_client.scan(TableName=table_name))["Items"]
    shards = {item["id"]["S"]: item.get("statusShard") for item in items}
    assert shards.pop(queue_id(KEY)) == outbox._parts.shard_migration._shards.key("PENDING", queue_id(KEY))
    assert list(shards.values()) == [None]
