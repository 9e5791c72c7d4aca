"""Transactions with tables of the user: writes and events are committed as one, or not at all."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    OutboxEventBus,
    StorageError,
    TableNotFoundError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UsageError,
)
from tests.dynamodb.bank import PRECISE, Bank, debit


async def test_writes_and_events_are_committed_as_one(bank: Bank) -> None:
    async with bank.bus.transaction() as tx:
        debit(tx, bank, 4)
        tx.put(TableName=bank.table, Item={"id": "bob", "balance": 4, "tags": {"new"}, "ratio": PRECISE})
        tx.put(TableName=bank.table, Item={"id": {"S": "eve"}, "balance": {"N": "1"}})
        tx.check(TableName=bank.table, Key={"id": "nobody"}, ConditionExpression="attribute_not_exists(id)")
        tx.delete(TableName=bank.table, Key={"id": "gone"})
        event = tx.emit("money.moved", {"amount": 4})
        joined = await bank.bus.emit("money.moved", {"amount": 5}, transaction=tx)
        many = await bank.bus.emit_many([Event("money.moved", {"amount": 6})], transaction=tx, delay=60)
        assert bank.proxy.count("TransactWriteItems") == bank.proxy.count("PutItem") - 1 == 0
    assert bank.proxy.count("TransactWriteItems") == 1
    assert [await bank.balance(name) for name in ("ada", "bob", "eve")] == [6, 4, 1]
    stored = await bank.client.get_item(TableName=bank.table, Key={"id": {"S": "bob"}})
    assert Decimal(stored["Item"]["ratio"]["N"]) == PRECISE
    assert await bank.pending() == 3
    claims = {claim.event.id: claim.event for claim in await bank.outbox.claim(10)}
    assert claims == {event.id: event, joined.id: joined}
    assert many[0].id not in claims


async def test_exception_inside_of_the_block_commits_nothing(bank: Bank) -> None:
    with pytest.raises(KeyError):
        async with bank.bus.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("account.debited")
            raise KeyError("of the user's")
    assert bank.proxy.count("TransactWriteItems") == 0
    assert await bank.balance("ada") == 10
    with pytest.raises(UsageError, match=r"the transaction is over: begin another one with bus\.transaction"):
        tx.emit("account.debited")


async def test_empty_transaction_makes_no_call(bank: Bank) -> None:
    async with bank.bus.transaction():
        pass
    assert bank.proxy.count("TransactWriteItems") == 0


async def test_false_condition_names_its_item_and_its_reason(bank: Bank) -> None:
    with pytest.raises(TransactionCancelledError) as caught:
        async with bank.bus.transaction() as tx:
            tx.put(TableName=bank.table, Item={"id": "bob", "balance": 40})
            debit(tx, bank, 40, ReturnValuesOnConditionCheckFailure="ALL_OLD")
            tx.emit("money.moved", {"amount": 40})
    (reason,) = caught.value.reasons
    assert (reason.index, reason.operation, reason.table_name, reason.code) == (
        1, "Update", bank.table, "ConditionalCheckFailed",
    )  # fmt: skip
    assert reason.item is not None
    assert reason.item["balance"] == {"N": "10"}
    message = str(caught.value)
    assert "DynamoDB cancelled the transaction, and nothing of it was written:" in message
    assert f"item 1, Update of {{'id': {{'S': 'ada'}}}} in '{bank.table}': ConditionalCheckFailed" in message
    assert (await bank.balance("ada"), await bank.balance("bob"), await bank.pending()) == (10, None, 0)


async def test_repeated_request_is_refused_by_the_id_of_its_event(bank: Bank) -> None:
    for repeated in (False, True):
        try:
            async with bank.bus.transaction() as tx:
                debit(tx, bank, 4)
                tx.emit("money.moved", {"amount": 4}, id="request-1")
        except DuplicateEventError as error:
            assert repeated
            assert error.event_id == "request-1"
            assert "is stored already, so nothing of the transaction was written; if this is a" in str(error)
            assert isinstance(error.__cause__, TransactionCancelledError)
            assert "event 'request-1'" in str(error.__cause__)
        else:
            assert not repeated
    assert await bank.balance("ada") == 6


async def test_event_that_is_given_twice_is_refused_before_anything_is_sent(bank: Bank) -> None:
    with pytest.raises(DuplicateEventError, match="two events of one call have the id 'same', so nothing was sent"):
        async with bank.bus.transaction() as tx:
            tx.emit("account.debited", id="same")
            tx.emit("account.debited", id="same")
    assert bank.proxy.count("TransactWriteItems") == 0


async def test_too_many_items_are_counted_with_those_of_the_user(bank: Bank) -> None:
    with pytest.raises(TransactionTooLargeError) as caught:
        async with bank.bus.transaction() as tx:
            for n in range(98):
                tx.delete(TableName=bank.table, Key={"id": f"{n}"})
            for _ in range(3):
                tx.emit("account.debited")
    assert str(caught.value) == (
        "the transaction has 101 items (98 writes, 3 events), but the limit is 100; nothing was sent. Split the "
        "transaction, or emit some of its events outside"
    )
    assert bank.proxy.count("TransactWriteItems") == 0


async def test_two_writes_of_one_item_are_refused_in_the_words_of_dynamodb(bank: Bank) -> None:
    with pytest.raises(StorageError, match="multiple operations on one item"):
        async with bank.bus.transaction() as tx:
            tx.delete(TableName=bank.table, Key={"id": "ada"})
            tx.delete(TableName=bank.table, Key={"id": "ada"})
    assert await bank.balance("ada") == 10


async def test_missing_table_is_named_among_those_of_the_transaction(bank: Bank) -> None:
    with pytest.raises(TableNotFoundError, match=r"one of the tables 'no-such-table', 'outbox-\w+' does not exist"):
        async with bank.bus.transaction() as tx:
            tx.put(TableName="no-such-table", Item={"id": "x"})
            tx.emit("account.debited")
    assert await bank.pending() == 0
    with pytest.raises(
        TableNotFoundError, match=r"the table 'no-such-table' does not exist .* create the table yourself"
    ) as caught:
        async with bank.bus.transaction() as tx:
            tx.put(TableName="no-such-table", Item={"id": "x"})
    assert caught.value.table_name == "no-such-table"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda tx: tx.put(TableName="", Item={"id": "x"}), "Put: TableName must be a string that is not empty"),
        (lambda tx: tx.put(TableName="account.debited", Item=[1]), "Put: Item must be a mapping, not a list of 1"),
        (
            lambda tx: tx.check(TableName="account.debited", Key={"id": "x"}, ConditionExpression=""),
            "ConditionExpression must be a string",
        ),
    ],
)
async def test_bad_arguments_are_refused_where_they_are_given(bank: Bank, use: Any, message: str) -> None:
    async with bank.bus.transaction() as tx:
        with pytest.raises(ConfigurationError, match=message):
            use(tx)


async def test_transaction_is_used_inside_of_its_block_and_once(bank: Bank) -> None:
    tx = bank.bus.transaction()
    with pytest.raises(UsageError, match="not open yet: use it inside of `async with`"):
        tx.emit("account.debited")
    async with tx:
        pass
    with pytest.raises(UsageError, match="a transaction is used once"):
        async with tx:
            pass
    async with bank.bus.transaction() as tx:
        with pytest.raises(ConfigurationError, match="a transaction stores all or nothing"):
            await bank.bus.emit("account.debited", transaction=tx, if_exists="ignore")


async def test_emit_middleware_runs_once_and_its_failure_commits_nothing(bank: Bank) -> None:
    seen: list[str] = []

    async def middleware(event: Event, call_next: Any) -> None:
        seen.append(event.type)
        if event.type == "bad":
            raise ValueError("refused by the middleware")
        if event.type != "dropped":
            await call_next(event)

    bank.bus.add_emit_middleware(middleware)
    async with bank.bus.transaction() as tx:
        tx.emit("a")
        await bank.bus.emit("b", transaction=tx)
        tx.emit("dropped")
    assert sorted(seen) == ["a", "b", "dropped"]
    assert await bank.pending() == 2
    with pytest.raises(ValueError, match="refused by the middleware"):
        async with bank.bus.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("bad")
    assert await bank.balance("ada") == 10


async def test_worker_is_woken_by_the_commit(bank: Bank) -> None:
    outbox = DynamoDBOutbox(bank.client, table_name=bank.outbox.table_name, poll_interval=60, processing_timeout=60)
    bus = OutboxEventBus(outbox)
    handled = anyio.Event()

    @bus.on("account.debited")
    async def handler(event: Event) -> None:
        handled.set()

    with anyio.fail_after(60):
        async with bus:
            await anyio.sleep(0.1)
            async with bus.transaction() as tx:
                tx.emit("account.debited")
            await handled.wait()


async def test_transact_items_are_for_a_call_of_the_user(bank: Bank) -> None:
    events = [Event("account.debited", {"n": 1}), Event("account.debited", {"n": 2}, id="mine")]
    entries = bank.outbox.transact_items(events)
    json.dumps(entries)
    own = {"Delete": {"TableName": bank.table, "Key": {"id": {"S": "ada"}}}}
    await bank.client.transact_write_items(TransactItems=[own, *entries])
    assert await bank.balance("ada") is None
    assert {claim.event.id for claim in await bank.outbox.claim(10)} == {event.id for event in events}
    with pytest.raises(bank.client.exceptions.TransactionCanceledException):
        await bank.client.transact_write_items(TransactItems=bank.outbox.transact_items([events[1]]))
