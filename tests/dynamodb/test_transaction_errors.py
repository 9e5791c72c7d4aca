"""Transactions that DynamoDB cancels, and whose responses are lost."""

from __future__ import annotations

import pytest

from dynamodb_outbox import Delivery, Event, InvalidRequestError, TransactionCancelledError, UnavailableError
from dynamodb_outbox.observers import Observation, Throttled
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Reply, nth
from tests.dynamodb.bank import Bank, debit, handle_one, status_of
from tests.dynamodb.impatience import giving_up_after

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
                tx.emit("account.debited", id=own_id)
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
    with pytest.raises(TransactionCancelledError, match="DynamoDB cancelled the transaction, and nothing of it was"):
        async with bank.bus.transaction() as tx:
            tx.emit("account.debited")


async def test_conflict_is_repeated_under_the_same_token(bank: Bank) -> None:
    told: list[Observation] = []
    bank.bus.add_observer(told.append)
    bank.proxy.rule = nth(1, "TransactWriteItems", conflict(1))
    async with bank.bus.transaction() as tx:
        debit(tx, bank, 4)
        tx.emit("account.debited")
    first, second = bank.proxy.of("TransactWriteItems")
    assert first["ClientRequestToken"] == second["ClientRequestToken"]
    assert await bank.balance("ada") == 6
    assert Throttled(operation="transact_write_items") in told


async def test_lasting_conflict_is_raised_with_its_item(bank: Bank) -> None:
    bank.proxy.rule = lambda request: conflict(1) if request.operation == "TransactWriteItems" else None
    with giving_up_after(3), pytest.raises(TransactionCancelledError) as caught:
        async with bank.bus.transaction() as tx:
            debit(tx, bank, 4)
            tx.emit("account.debited")
    assert caught.value.attempts == bank.proxy.count("TransactWriteItems") == 3
    assert "cancelled the transaction 3 times" in str(caught.value)
    assert "item 0, Update of {'id': {'S': 'ada'}}" in str(caught.value)
    assert "TransactionConflict: Transaction is ongoing for the item" in str(caught.value)


# moto ignores the ClientRequestToken, by which DynamoDB answers the repeat of a transaction that was committed.
@pytest.mark.parametrize("bank", ["local"], indirect=True)
@pytest.mark.parametrize("own_id", [None, "mine"])
async def test_commit_whose_response_is_lost_is_repeated_and_commits_once(bank: Bank, own_id: str | None) -> None:
    bank.proxy.rule = nth(1, "TransactWriteItems", CUT_AFTER)
    async with bank.bus.transaction() as tx:
        debit(tx, bank, 4)
        event = tx.emit("account.debited", id=own_id)
    assert bank.proxy.count("TransactWriteItems") == 2
    assert await bank.balance("ada") == 6
    assert [claim.event.id for claim in await bank.outbox.claim(10)] == [event.id]


async def test_commit_that_never_succeeds_is_reported(bank: Bank) -> None:
    bank.proxy.rule = lambda request: CUT_BEFORE if request.operation == "TransactWriteItems" else None
    with giving_up_after(3), pytest.raises(UnavailableError) as caught:
        async with bank.bus.transaction() as tx:
            tx.emit("account.debited")
    assert (caught.value.attempts, caught.value.maybe_applied) == (3, True)


async def test_write_that_dynamodb_refuses_as_invalid_raises_a_public_error(bank: Bank) -> None:
    with pytest.raises(InvalidRequestError, match="transact_write_items was refused: ValidationException") as caught:
        async with bank.bus.transaction() as tx:
            debit(tx, bank, 4)
            debit(tx, bank, 5)
    assert caught.value.operation == "transact_write_items"
    assert caught.value.reason.startswith("ValidationException: ")
