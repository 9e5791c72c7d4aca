"""Emits over a tombstone, or of an id that another writer has: nothing is lost, and nothing is stored twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import (
    DuplicateEventError,
    Event,
    EventStatus,
    PartialPublishError,
    PublishError,
    TransactionCancelledError,
)
from dynamodb_outbox.dynamodb.windows.item import FIRST_VERSION, VOID
from dynamodb_outbox.transaction import TransactionWrite
from reliability.proxy import CUT_BEFORE, Proxy, nth
from tests.dynamodb.windows import WAYS, Desk, order, until

PENDING, PROCESSING, COMPLETED, FAILED, *_ = (str(status) for status in EventStatus)
NEW = "attribute_not_exists(id)"
NEW_OR_VOID = "attribute_not_exists(id) OR #status = :void"


def tombstones(*events: Event) -> list[dict[str, Any]]:
    """Make the tombstones that a recovery has left a while ago."""
    return [{"id": {"S": event.id}, "status": {"S": VOID}, "expireAt": {"N": "1700000000"}} for event in events]


@pytest.mark.parametrize("way", WAYS)
async def test_event_is_stored_in_the_index_over_a_tombstone(desk: Desk, way: str) -> None:
    # An event that runs keeps the window open.
    await desk.emit(running := order())
    window, events = desk.window, [order() for _ in range(3)]
    for item in tombstones(events[1]):
        await desk.put(item)
    try:
        await WAYS[way](desk, *events)
    except PublishError as refused:
        pytest.fail(f"a tombstone has refused an event: {refused}")
    item = await desk.item(events[1])
    assert item["status"] == {"S": PROCESSING}
    assert item["claimToken"] == {"S": desk.claims[events[1].id].token}
    assert "gsiSortKey" in item
    assert "window" not in item
    assert "expireAt" not in item
    assert set(desk.claims) >= {event.id for event in events}
    # The window is renewed at once: most likely, a recovery has taken it.
    async with asyncio.timeout(5):  # the next renewal by time is 10 seconds after the first
        await until(lambda: window.versions != [FIRST_VERSION])
    assert await desk.settle(running, *events) == [None] * 4
    assert window.open_count == 0


@pytest.mark.parametrize("way", ["alone", "together", "in a transaction", "user's transaction"])
async def test_event_that_is_not_claimed_is_stored_over_a_tombstone(desk: Desk, way: str) -> None:
    events = [order(), order()]
    for item in tombstones(*events):
        await desk.put(item)
    match way:
        case "alone":
            for event in events:
                await desk.outbox.publish([event])
        case "together":
            await desk.outbox.publish(events)
        case "in a transaction":
            await desk.outbox.transact([], [(event, None) for event in events])
        case _:
            await desk.client.transact_write_items(TransactItems=desk.outbox.transact_items(events))
    assert {claim.event.id for claim in await desk.outbox.claim(5)} == {event.id for event in events}


async def test_transaction_over_a_tombstone_is_repeated_with_its_writes_as_a_new_one(desk: Desk, proxy: Proxy) -> None:
    window, events = desk.window, [order(), order()]
    for item in tombstones(events[0]):
        await desk.put(item)
    write = TransactionWrite(
        operation="Put", arguments={"TableName": desk.outbox.table_name, "Item": {"id": "business"}}
    )
    await desk.transact(*events, writes=[write])
    first, second = proxy.of("TransactWriteItems")
    assert first["ClientRequestToken"] != second["ClientRequestToken"]
    assert [put["Put"].get("ConditionExpression") for put in first["TransactItems"]] == [None, NEW, NEW]
    assert [put["Put"].get("ConditionExpression") for put in second["TransactItems"]] == [None, *[NEW_OR_VOID] * 2]
    assert await desk.item("business") == {"id": {"S": "business"}}
    assert all(["gsiSortKey" in await desk.item(event) for event in events])
    assert window.open_count == 0


async def test_transaction_that_another_reason_cancels_leaves_the_window(desk: Desk, proxy: Proxy) -> None:
    window, events = desk.window, [order(), order()]
    for item in tombstones(events[0]):
        await desk.put(item)
    arguments = {"TableName": desk.outbox.table_name, "Key": {"id": "missing"}}
    check = TransactionWrite(
        operation="ConditionCheck", arguments={**arguments, "ConditionExpression": "attribute_exists(id)"}
    )
    with pytest.raises(TransactionCancelledError) as caught:
        await desk.transact(*events, writes=[check])
    assert [reason.index for reason in caught.value.reasons] == [0]
    assert window.open_count == 0
    with pytest.raises(TransactionCancelledError):
        await desk.transact(order(), writes=[check])
    assert window.open_count == 0
    assert proxy.count("TransactWriteItems") == 3


@pytest.mark.parametrize("is_answered", [False, True])
async def test_transaction_over_a_tombstone_keeps_in_mind_an_attempt_that_was_not_answered(
    desk: Desk, proxy: Proxy, *, is_answered: bool
) -> None:
    event = order()
    for item in tombstones(event):
        await desk.put(item)
    if not is_answered:
        proxy.rule = nth(1, "TransactWriteItems", CUT_BEFORE)
    arguments = {"TableName": desk.outbox.table_name, "Key": {"id": "missing"}}
    check = TransactionWrite(
        operation="ConditionCheck", arguments={**arguments, "ConditionExpression": "attribute_exists(id)"}
    )
    with pytest.raises(TransactionCancelledError) as caught:
        await desk.transact(event, writes=[check])
    assert caught.value.maybe_applied is not is_answered


async def test_event_of_another_writer_is_a_duplicate(inserting: Desk) -> None:
    events = [order() for _ in range(4)]
    await inserting.outbox.publish([Event("other", id=events[0].id)])
    await inserting.outbox.publish([Event("other", id=events[2].id)])
    with pytest.raises(DuplicateEventError):
        await inserting.emit(events[0])
    with pytest.raises(PartialPublishError) as caught:
        await inserting.emit(*events[1:])
    assert [event.id for event in caught.value.failed] == [events[2].id]
    assert isinstance(caught.value.causes[events[2].id], DuplicateEventError)
    with pytest.raises(DuplicateEventError):
        await inserting.transact(order(), events[0])
    assert inserting.window.open_count == 2
