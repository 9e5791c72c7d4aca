"""Transactions with a user's own tables: values of both forms, what stands against them, and lost replies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    Delivery,
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    LeaseLostError,
    OutboxEventBus,
    StorageError,
    TableNotFoundError,
    TransactionCancelledError,
    TransactionTooLargeError,
    UnavailableError,
    UnstorableValueError,
    UsageError,
)
from dynamodb_outbox.dynamodb.emitting.transact_items import entry_of
from dynamodb_outbox.observers import Observation, Throttled
from dynamodb_outbox.transaction import TransactionWrite
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Reply, nth, running_proxy
from tests.backends import open_client
from tests.dynamodb.impatience import giving_up_after


@dataclass
class Bank:
    """A table of accounts beside the outbox, behind a proxy."""

    client: Any
    outbox: DynamoDBOutbox
    bus: OutboxEventBus
    proxy: Proxy
    table: str
    errors: list[Any]

    async def balance(self, account: str) -> int | None:
        reply = await self.client.get_item(TableName=self.table, Key={"id": {"S": account}}, ConsistentRead=True)
        return int(reply["Item"]["balance"]["N"]) if "Item" in reply else None

    async def pending(self) -> int:
        return await self.outbox.count(EventStatus.PENDING)


@pytest.fixture(params=["moto", "local"])
async def bank(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Bank]:
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    accounts = f"{table_name}-accounts"
    async with running_proxy(endpoint) as proxy, open_client(proxy.endpoint) as client:
        errors: list[Any] = []
        outbox = DynamoDBOutbox(
            client, table_name=table_name, poll_interval=0.05, base_backoff=0.01, on_error=errors.append
        )
        await outbox.create_table()
        await client.create_table(
            TableName=accounts,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        await client.put_item(TableName=accounts, Item={"id": {"S": "ada"}, "balance": {"N": "10"}})
        yield Bank(client, outbox, OutboxEventBus(outbox), proxy, accounts, errors)


PRECISE = Decimal("0.1234567890123456789")
"""A number that no float equals: in the users' own tables it stays as it is."""


def debit(tx: Any, bank: Bank, amount: int, **options: Any) -> None:
    tx.update(
        TableName=bank.table,
        Key={"id": "ada"},
        UpdateExpression="SET balance = balance - :amount",
        ConditionExpression="balance >= :amount",
        ExpressionAttributeValues={":amount": amount},
        **options,
    )


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
            tx.emit("t")
            raise KeyError("of the user's")
    assert bank.proxy.count("TransactWriteItems") == 0
    assert await bank.balance("ada") == 10
    with pytest.raises(UsageError, match=r"the transaction is over: begin another one with bus\.transaction"):
        tx.emit("t")


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
    assert "the transaction was cancelled, and nothing of it was written:" in message
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


async def test_plain_and_low_level_values_are_not_mixed(bank: Bank) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with bank.bus.transaction() as tx:
            tx.put(TableName=bank.table, Item={"id": "bob", "balance": {"N": "4"}})
    assert str(caught.value).startswith(
        "Put Item: 'balance' is a low-level value and 'id' a plain one; write all of them plain, such as 'text' or 5, "
        "or all of them low-level, such as {'S': 'text'} or {'N': '5'}"
    )
    assert str(caught.value).endswith("(a map that only looks like one: {'M': {'S': {'S': 'text'}}})")


async def test_event_that_is_given_twice_is_refused_before_anything_is_sent(bank: Bank) -> None:
    with pytest.raises(DuplicateEventError, match="the id 'same' is there twice in one call; nothing was sent"):
        async with bank.bus.transaction() as tx:
            tx.emit("t", id="same")
            tx.emit("t", id="same")
    assert bank.proxy.count("TransactWriteItems") == 0


async def test_mapping_that_is_used_again_keeps_the_values_it_had(bank: Bank) -> None:
    item: dict[str, Any] = {}
    async with bank.bus.transaction() as tx:
        for name, balance in (("bob", 1), ("eve", 2)):
            item.update(id=name, balance=balance)
            tx.put(TableName=bank.table, Item=item)
    assert [await bank.balance(name) for name in ("bob", "eve")] == [1, 2]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"id": {"S": "\ud800"}}, "Put Item cannot be stored: it is no valid Unicode text"),
        ({"id": {"M": {"\ud800": {"S": "a"}}}}, "Put Item cannot be stored: it is no valid Unicode text"),
        ({1: {"S": "ada"}}, r"Put Item\[1\] cannot be stored: a key must be a string, not int"),
    ],
)
async def test_low_level_text_and_names_that_cannot_be_stored_are_refused(item: Any, message: str) -> None:
    with pytest.raises(UnstorableValueError, match=message):
        entry_of(TransactionWrite(operation="Put", arguments={"TableName": "accounts", "Item": item}))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"NS": [1, 2]}, {"M": {"NS": {"L": [{"N": "1"}, {"N": "2"}]}}}),
        ({"L": [1]}, {"M": {"L": {"L": [{"N": "1"}]}}}),
        ({"M": {"a": 1}}, {"M": {"M": {"M": {"a": {"N": "1"}}}}}),
        ({"N": 5}, {"M": {"N": {"N": "5"}}}),
        ({"M": {"S": {"S": "text"}}}, {"M": {"S": {"S": "text"}}}),
        ({"NS": ["1"]}, {"NS": ["1"]}),
    ],
)
async def test_what_only_looks_like_a_low_level_value_is_a_plain_map(value: Any, stored: dict[str, Any]) -> None:
    def put(**item: Any) -> dict[str, Any]:
        write = TransactionWrite(operation="Put", arguments={"TableName": "accounts", "Item": item})
        fields: dict[str, Any] = entry_of(write)[0]["Put"]["Item"]
        return fields

    assert put(value=value) == {"value": stored}
    other: Any = {"S": "ada"} if value == stored else "ada"
    assert put(id=other, value=value) == {"id": {"S": "ada"}, "value": stored}
    with pytest.raises(ConfigurationError, match=r"is a low-level value and '\w+' a plain one"):
        put(id="ada" if value == stored else {"S": "ada"}, value=value)


async def test_value_that_cannot_be_stored_is_named_with_its_path(bank: Bank) -> None:
    with pytest.raises(
        UnstorableValueError, match=r"Put Item\.lines\[1\] cannot be stored: DynamoDB has no number nan"
    ):
        async with bank.bus.transaction() as tx:
            tx.put(TableName=bank.table, Item={"id": "bob", "lines": [1, float("nan")]})
    assert bank.proxy.count("TransactWriteItems") == 0


async def test_too_many_items_are_counted_with_those_of_the_user(bank: Bank) -> None:
    with pytest.raises(TransactionTooLargeError) as caught:
        async with bank.bus.transaction() as tx:
            for n in range(98):
                tx.delete(TableName=bank.table, Key={"id": f"{n}"})
            for _ in range(3):
                tx.emit("t")
    assert str(caught.value) == (
        "the transaction has 101 items (98 of yours, 3 events), the limit is 100; nothing was sent. Split it, or emit "
        "the events that need not be in it apart"
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
            tx.emit("t")
    assert await bank.pending() == 0
    with pytest.raises(TableNotFoundError, match=r"the table 'no-such-table' does not exist .* of your own") as caught:
        async with bank.bus.transaction() as tx:
            tx.put(TableName="no-such-table", Item={"id": "x"})
    assert caught.value.table_name == "no-such-table"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda tx: tx.put(TableName="", Item={"id": "x"}), "Put: TableName must be a string that is not empty"),
        (lambda tx: tx.put(TableName="t", Item=[1]), "Put: Item must be a mapping, not a list of 1"),
        (
            lambda tx: tx.check(TableName="t", Key={"id": "x"}, ConditionExpression=""),
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
        tx.emit("t")
    async with tx:
        pass
    with pytest.raises(UsageError, match="a transaction is used once"):
        async with tx:
            pass
    async with bank.bus.transaction() as tx:
        with pytest.raises(ConfigurationError, match="a transaction stores all or nothing"):
            await bank.bus.emit("t", transaction=tx, if_exists="ignore")


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

    @bus.on("t")
    async def handler(event: Event) -> None:
        handled.set()

    with anyio.fail_after(60):
        async with bus:
            await anyio.sleep(0.1)
            async with bus.transaction() as tx:
                tx.emit("t")
            await handled.wait()


async def test_transact_items_are_for_a_call_of_the_user(bank: Bank) -> None:
    events = [Event("t", {"n": 1}), Event("t", {"n": 2}, id="mine")]
    entries = bank.outbox.transact_items(events)
    json.dumps(entries)
    own = {"Delete": {"TableName": bank.table, "Key": {"id": {"S": "ada"}}}}
    await bank.client.transact_write_items(TransactItems=[own, *entries])
    assert await bank.balance("ada") is None
    assert {claim.event.id for claim in await bank.outbox.claim(10)} == {event.id for event in events}
    with pytest.raises(bank.client.exceptions.TransactionCanceledException):
        await bank.client.transact_write_items(TransactItems=bank.outbox.transact_items([events[1]]))


# Faults


CANCELLED = {
    "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
    "message": "Transaction cancelled",
}


def conflict(count: int) -> Reply:
    reasons = [
        {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"},
        *[{"Code": "None"}] * count,
    ]
    return Reply(400, {**CANCELLED, "CancellationReasons": reasons})


def cancelled(*codes: str) -> Reply:
    return Reply(400, {**CANCELLED, "CancellationReasons": [{"Code": code} for code in codes]})


@pytest.mark.parametrize(
    "codes",
    [
        ["ConditionalCheckFailed", "TransactionConflict"],
        ["ConditionalCheckFailed", "ThrottlingError"],
        ["ConditionalCheckFailed", "ValidationError"],
        ["None", "ValidationError"],
    ],
)
async def test_refusal_of_an_event_for_another_reason_is_not_a_duplicate(bank: Bank, codes: list[str]) -> None:
    bank.proxy.rule = lambda request: cancelled(*codes) if request.operation == "TransactWriteItems" else None
    for own_id in (None, "mine"):
        with pytest.raises(TransactionCancelledError) as caught:
            async with bank.bus.transaction() as tx:
                debit(tx, bank, 4)
                tx.emit("t", id=own_id)
        assert [reason.code for reason in caught.value.reasons] == [code for code in codes if code != "None"]
    assert bank.proxy.count("TransactWriteItems") == 2


@pytest.mark.parametrize("reply", [cancelled("ConditionalCheckFailed", "TransactionConflict", "None"),
                                   Reply(400, CANCELLED)])  # fmt: skip
async def test_refused_delivery_is_reported_and_tried_again(bank: Bank, reply: Reply) -> None:
    bank.proxy.rule = nth(1, "TransactWriteItems", reply)

    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("child")

    assert await handle_one(bank, handler) == 1
    item = await status_of(bank, "parent")
    assert (item["status"], item["retryCount"]) == ({"S": "PENDING"}, {"N": "1"})
    assert "TransactionCancelledError" in item["lastError"]["S"]


async def test_refusal_without_reasons_is_raised(bank: Bank) -> None:
    bank.proxy.rule = nth(1, "TransactWriteItems", Reply(400, CANCELLED))
    with pytest.raises(TransactionCancelledError, match="the transaction was cancelled, and nothing of it was"):
        async with bank.bus.transaction() as tx:
            tx.emit("t")


async def test_conflict_is_repeated_under_the_same_token(bank: Bank) -> None:
    told: list[Observation] = []
    bank.bus.add_observer(told.append)
    bank.proxy.rule = nth(1, "TransactWriteItems", conflict(1))
    async with bank.bus.transaction() as tx:
        debit(tx, bank, 4)
        tx.emit("t")
    first, second = bank.proxy.of("TransactWriteItems")
    assert first["ClientRequestToken"] == second["ClientRequestToken"]
    assert await bank.balance("ada") == 6
    assert Throttled(operation="transact_write_items") in told


async def test_lasting_conflict_is_raised_with_its_item(bank: Bank) -> None:
    bank.proxy.rule = lambda request: conflict(1) if request.operation == "TransactWriteItems" else None
    with giving_up_after(3), pytest.raises(TransactionCancelledError) as caught:
        async with bank.bus.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("t")
    assert caught.value.attempts == bank.proxy.count("TransactWriteItems") == 3
    assert "cancelled 3 times" in str(caught.value)
    assert "item 0, Update of {'id': {'S': 'ada'}}" in str(caught.value)
    assert "TransactionConflict: Transaction is ongoing for the item" in str(caught.value)


# moto ignores the ClientRequestToken, by which DynamoDB answers the repeat of a transaction that was committed.
@pytest.mark.parametrize("bank", ["local"], indirect=True)
@pytest.mark.parametrize("own_id", [None, "mine"])
async def test_commit_whose_response_is_lost_is_repeated_and_commits_once(bank: Bank, own_id: str | None) -> None:
    bank.proxy.rule = nth(1, "TransactWriteItems", CUT_AFTER)
    async with bank.bus.transaction() as tx:
        debit(tx, bank, 4)
        event = tx.emit("t", id=own_id)
    assert bank.proxy.count("TransactWriteItems") == 2
    assert await bank.balance("ada") == 6
    assert [claim.event.id for claim in await bank.outbox.claim(10)] == [event.id]


async def test_commit_that_never_succeeds_is_reported(bank: Bank) -> None:
    bank.proxy.rule = lambda request: CUT_BEFORE if request.operation == "TransactWriteItems" else None
    with giving_up_after(3), pytest.raises(UnavailableError) as caught:
        async with bank.bus.transaction() as tx:
            tx.emit("t")
    assert (caught.value.attempts, caught.value.maybe_applied) == (3, True)


# Deliveries


class Collector:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)


async def handle_one(bank: Bank, handler: Any, **options: Any) -> int:
    bank.bus.on("t", handler, **options)
    await bank.bus.emit("t", {"n": 1}, id="parent")
    return await bank.bus.run_once()


async def status_of(bank: Bank, event_id: str) -> dict[str, Any]:
    reply = await bank.client.get_item(
        TableName=bank.outbox.table_name, Key={"id": {"S": event_id}}, ConsistentRead=True
    )
    item: dict[str, Any] = reply["Item"]
    return item


async def test_effects_children_and_completion_are_one_write(bank: Bank) -> None:
    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("child", {"of": event.id})

    assert await handle_one(bank, handler) == 1
    assert bank.proxy.count("TransactWriteItems") == 1
    assert await bank.balance("ada") == 6
    item = await status_of(bank, "parent")
    assert (item["status"], "gsiSortKey" in item) == ({"S": "COMPLETED"}, False)
    (child,) = [claim.event for claim in await bank.outbox.claim(10)]
    assert child.metadata == {"correlationId": "parent", "causationId": "parent"}
    # Nothing was left for the settle to write.
    writes = [body for body in bank.proxy.of("UpdateItem") if body["Key"] == {"id": {"S": "parent"}}]
    assert len([body for body in writes if "COMPLETED" in str(body)]) == 0


@pytest.mark.parametrize("rule", [CUT_AFTER, CUT_BEFORE])
async def test_delivery_whose_commit_lost_its_response_has_its_effect_once(bank: Bank, rule: str) -> None:
    bank.proxy.rule = nth(1, "TransactWriteItems", rule)

    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)

    assert await handle_one(bank, handler) == 1
    assert await bank.balance("ada") == 6
    assert (await status_of(bank, "parent"))["status"] == {"S": "COMPLETED"}


async def test_effect_happens_once_though_the_commit_is_never_acknowledged(bank: Bank) -> None:
    # The engine has it, and says so to nobody: the next attempt finds the record.
    lose = True
    bank.proxy.rule = lambda request: CUT_AFTER if request.operation == "TransactWriteItems" and lose else None
    others = 0

    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)

    async def other(event: Event) -> None:
        nonlocal others
        others += 1
        if others == 1:
            raise ValueError("so that the event is not completed by the first attempt")

    bank.bus.on("t", other, name="other")
    with giving_up_after(3):
        assert await handle_one(bank, handler) == 1
    assert await bank.balance("ada") == 6
    lose = False
    await anyio.sleep(0.1)
    assert await bank.bus.run_once() == 1
    assert await bank.balance("ada") == 6
    assert others == 2
    assert (await status_of(bank, "parent"))["status"] == {"S": "COMPLETED"}


async def test_failure_after_the_commit_is_reported_and_runs_nothing_again(bank: Bank) -> None:
    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)
        raise ValueError("too late to matter")

    assert await handle_one(bank, handler) == 1
    assert (await status_of(bank, "parent"))["status"] == {"S": "COMPLETED"}
    assert await bank.balance("ada") == 6
    assert "too late to matter" in str(bank.errors[0])


async def test_second_transaction_of_a_delivery_is_refused_before_anything_is_sent(bank: Bank) -> None:
    caught: list[str] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 4)
        try:
            async with delivery.transaction() as tx:
                debit(tx, bank, 4)
        except UsageError as error:
            caught.append(str(error))

    assert await handle_one(bank, handler, name="charge") == 1
    assert await bank.balance("ada") == 6
    assert "handler 'charge' has committed a transaction of this delivery already" in caught[0]
    assert "or use bus.transaction() for what may happen more than once" in caught[0]


async def test_false_condition_of_the_user_has_the_event_retried(bank: Bank) -> None:
    async def handler(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            debit(tx, bank, 40)

    assert await handle_one(bank, handler) == 1
    item = await status_of(bank, "parent")
    assert (item["status"], item["retryCount"]) == ({"S": "PENDING"}, {"N": "1"})
    assert "TransactionCancelledError" in item["lastError"]["S"]


async def test_lost_lease_refuses_the_transaction_and_leaves_the_winner_alone(bank: Bank) -> None:
    raised: list[LeaseLostError] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        # Somebody else redrives it meanwhile.
        await bank.client.update_item(
            TableName=bank.outbox.table_name,
            Key={"id": {"S": "parent"}},
            UpdateExpression="SET claimToken = :other",
            ExpressionAttributeValues={":other": {"S": "other"}},
        )
        try:
            async with delivery.transaction() as tx:
                debit(tx, bank, 4)
                tx.emit("child")
        except LeaseLostError as error:
            raised.append(error)
            raise

    assert await handle_one(bank, handler) == 0
    assert await bank.balance("ada") == 10
    assert "delivery transaction of 't' event 'parent' was refused: its lease was lost" in str(raised[0])
    # Told once: by the settle, which finds out whether the event is another's.
    (told,) = bank.errors
    assert isinstance(told, LeaseLostError)
    item = await status_of(bank, "parent")
    assert (item["status"], item["claimToken"]) == ({"S": "PROCESSING"}, {"S": "other"})


async def test_children_are_emitted_once_over_all_attempts(bank: Bank) -> None:
    emitted: list[list[str]] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        emits = [
            await delivery.emit("child", {"n": 0}),
            await delivery.emit("child", {"n": 1}, metadata={"tenant": "x"}),
            await delivery.emit("child", {"n": 2}, key="receipt"),
        ]
        emitted.append([child.id for child in emits])
        if delivery.attempt == 1:
            raise ValueError("after the emits")

    await bank.bus.emit("t", id="parent", metadata={"correlationId": "order-7"})
    bank.bus.on("t", handler)
    children = Collector()
    bank.bus.on("child", children)
    for _ in range(10):
        await bank.bus.run_once()
        await anyio.sleep(0.02)
    assert len(emitted) == 2
    assert emitted[0] == emitted[1]
    assert sorted(event.payload["n"] for event in children.events) == [0, 1, 2]
    by_n = {event.payload["n"]: event for event in children.events}
    assert by_n[1].metadata == {"correlationId": "order-7", "causationId": "parent", "tenant": "x"}
