"""Transactions of deliveries with an ordering key: the queue has the fence and the record, and may list a child."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import Delivery, DynamoDBOutbox, Event, LeaseLostError, TransactionCancelledError
from dynamodb_outbox.claims import Claim, HandlerDone
from dynamodb_outbox.dynamodb.ordering.queue import queue_id
from dynamodb_outbox.outcome import Completed
from dynamodb_outbox.transaction import TransactionWrite
from reliability.proxy import CUT_AFTER, CUT_BEFORE, nth
from tests.dynamodb.bank import Bank, debit, status_of
from tests.dynamodb.ordered import ids_of, line_of, orders, patient
from tests.fakes import Recorder

KEY = "order-17"
TRANSACTION = "TransactWriteItems"


@pytest.fixture(autouse=True)
def _patience(bank: Bank) -> None:
    patient(bank.outbox)


async def line(bank: Bank) -> list[str]:
    return await line_of(bank.client, bank.outbox.table_name, KEY)


async def claim_first(bank: Bank, events: list[Event]) -> Claim:
    await bank.outbox.publish(events)
    (claim,) = await bank.outbox.claim(1)
    assert claim.event == events[0]
    return claim


def debiting(bank: Bank) -> list[TransactionWrite]:
    arguments: dict[str, Any] = {
        "TableName": bank.table,
        "Key": {"id": "ada"},
        "UpdateExpression": "SET balance = balance - :amount",
        "ExpressionAttributeValues": {":amount": 4},
    }
    return [TransactionWrite(operation="Update", arguments=arguments)]


async def change(bank: Bank, item_id: str, name: str, value: dict[str, Any]) -> None:
    await bank.client.update_item(
        TableName=bank.outbox.table_name,
        Key={"id": {"S": item_id}},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )


async def test_last_handler_marks_the_event_and_the_settle_pops_it(bank: Bank) -> None:
    events = orders(2)
    claim = await claim_first(bank, events)
    done = HandlerDone(claim=claim, handler="charge", completes=True)
    await bank.outbox.transact(debiting(bank), [], done=done)
    assert bank.proxy.count(TRANSACTION) == 1
    item, queue = await status_of(bank, events[0].id), await status_of(bank, queue_id(KEY))
    assert (item["status"], "completedOn" in item) == ({"S": "COMPLETED"}, True)
    assert (queue["status"], queue["claimToken"], queue["handledBy"]) == (
        {"S": "PROCESSING"}, {"S": claim.token}, {"SS": ["charge"]},
    )  # fmt: skip
    bank.proxy.requests.clear()
    (following,) = await bank.outbox.settle([(claim, Completed())], keep_keys=True)
    assert isinstance(following, Claim)
    assert (following.event, following.handled_by) == (events[1], frozenset())
    # The event is marked already, so that the settle only pops it.
    texts = [str(request.body) for request in bank.proxy.requests]
    assert not [text for text in texts if "COMPLETED" in text and events[0].id in text]
    assert await bank.balance("ada") == 6


async def test_event_that_the_last_handler_marks_expires_after_the_retention(bank: Bank) -> None:
    claim = await claim_first(bank, events := orders(1))
    keeping = DynamoDBOutbox(bank.client, table_name=bank.outbox.table_name, retention=60)
    await keeping.transact(debiting(bank), [], done=HandlerDone(claim=claim, handler="charge", completes=True))
    item = await status_of(bank, events[0].id)
    assert int(item["expireAt"]["N"]) == int(item["completedOn"]["N"]) // 1000 + 60


async def test_record_of_one_of_two_handlers_is_kept_in_the_queue(bank: Bank) -> None:
    claim = await claim_first(bank, events := orders(1))
    done = HandlerDone(claim=claim, handler="charge", completes=False)
    await bank.outbox.transact(debiting(bank), [], done=done)
    assert (await status_of(bank, events[0].id))["status"] == {"S": "QUEUED"}
    assert (await status_of(bank, queue_id(KEY)))["handledBy"] == {"SS": ["charge"]}
    # A repeat of the delivery changes nothing more.
    await bank.outbox.transact(debiting(bank), [(each, None) for each in orders(1)], done=done)
    assert (await bank.balance("ada"), await line(bank)) == (6, ids_of(events))


@pytest.mark.parametrize("completes", [False, True])
@pytest.mark.parametrize("waiting", [0, 9, 19, 25])
async def test_child_of_the_same_key_is_appended_with_the_record(bank: Bank, waiting: int, *, completes: bool) -> None:
    """DynamoDB refuses a transaction that names an item twice."""
    claim = await claim_first(bank, before := orders(1 + waiting))
    # Emits have filled the queue since the claim, so that the append is planned again.
    await bank.outbox.publish(more := orders(1))
    done = HandlerDone(claim=claim, handler="charge", completes=completes)
    children = orders(2)
    await bank.outbox.transact(debiting(bank), [(child, None) for child in children], done=done)
    assert await line(bank) == ids_of(before + more + children)
    assert (await status_of(bank, queue_id(KEY)))["handledBy"] == {"SS": ["charge"]}
    assert (await status_of(bank, before[0].id))["status"] == {"S": "COMPLETED" if completes else "QUEUED"}
    assert await bank.balance("ada") == 6


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize("waiting", [0, 9])
async def test_delivery_whose_commit_lost_its_response_has_its_effect_once(bank: Bank, lost: str, waiting: int) -> None:
    claim = await claim_first(bank, before := orders(1 + waiting))
    bank.proxy.rule = nth(1, TRANSACTION, lost)
    done = HandlerDone(claim=claim, handler="charge", completes=True)
    children = orders(1)
    await bank.outbox.transact(debiting(bank), [(child, None) for child in children], done=done)
    assert (await line(bank), await bank.balance("ada")) == (ids_of(before + children), 6)


@pytest.mark.parametrize("has_child", [False, True])
async def test_lost_lease_refuses_the_transaction(bank: Bank, *, has_child: bool) -> None:
    claim = await claim_first(bank, before := orders(1))
    await change(bank, queue_id(KEY), "claimToken", {"S": "other"})
    done = HandlerDone(claim=claim, handler="charge", completes=True)
    with pytest.raises(LeaseLostError):
        await bank.outbox.transact(debiting(bank), [(each, None) for each in orders(1)] if has_child else [], done=done)
    assert (await line(bank), await bank.balance("ada")) == (ids_of(before), 10)
    assert (await status_of(bank, before[0].id))["status"] == {"S": "QUEUED"}


async def test_event_that_a_former_worker_has_marked_refuses_the_transaction(bank: Bank) -> None:
    claim = await claim_first(bank, before := orders(1))
    await change(bank, before[0].id, "status", {"S": "COMPLETED"})
    with pytest.raises(LeaseLostError):
        await bank.outbox.transact(debiting(bank), [], done=HandlerDone(claim=claim, handler="charge", completes=True))
    assert await bank.balance("ada") == 10
    assert "handledBy" not in await status_of(bank, queue_id(KEY))


async def test_condition_of_the_user_is_told_though_the_queue_was_full(bank: Bank) -> None:
    claim = await claim_first(bank, before := orders(10))
    write = debiting(bank)[0]
    arguments = {**write.arguments, "ConditionExpression": "balance > :hundred"}
    arguments["ExpressionAttributeValues"] = {":amount": 4, ":hundred": 100}
    refusing = [TransactionWrite(operation="Update", arguments=arguments)]
    with pytest.raises(TransactionCancelledError) as caught:
        await bank.outbox.transact(
            refusing,
            [(each, None) for each in orders(1)],
            done=HandlerDone(claim=claim, handler="charge", completes=False),
        )
    assert [reason.index for reason in caught.value.reasons] == [0]
    assert (await line(bank), await bank.balance("ada")) == (ids_of(before), 10)


async def test_effects_children_and_order_with_a_worker(bank: Bank) -> None:
    children, failures = Recorder(), 0

    @bank.bus.on("order.paid", name="charge")
    async def charge(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 1)
            tx.emit("child", {"of": event.id}, ordering_key=KEY)
            tx.emit("child", {"of": event.id}, ordering_key="other")

    @bank.bus.on("order.paid", name="mail")
    async def mail(event: Event) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise ConnectionError("once or twice")

    bank.bus.on("child", children)
    async with bank.bus:
        await bank.bus.emit_many(events := orders(4))
        await bank.bus.drain(timeout=100)
    assert failures == 2
    for key in (KEY, "other"):
        of_key = [event.payload["of"] for event in children.events if event.ordering_key == key]
        assert of_key == ids_of(events)
    assert await bank.balance("ada") == 6
    assert len(bank.errors) == failures
