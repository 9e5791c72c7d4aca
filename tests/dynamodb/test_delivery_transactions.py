"""Transactions of a delivery: effects, children and "this handler is done" are one write."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Delivery, Event, LeaseLostError, StorageError, UsageError
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, nth
from tests.dynamodb.bank import Bank, debit, handle_one, status_of
from tests.dynamodb.impatience import giving_up_after
from tests.fakes import Recorder


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

    bank.bus.on("account.debited", other, name="other")
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
    assert "handler 'charge' has already committed a transaction of this delivery" in caught[0]
    assert "or use bus.transaction() for writes that may repeat" in caught[0]


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
    assert "delivery transaction' of 'account.debited' event 'parent' was refused: the lease ran out" in str(raised[0])
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

    await bank.bus.emit("account.debited", id="parent", metadata={"correlationId": "order-7"})
    bank.bus.on("account.debited", handler)
    children = Recorder()
    bank.bus.on("child", children)
    for _ in range(10):
        await bank.bus.run_once()
        await anyio.sleep(0.02)
    assert len(emitted) == 2
    assert emitted[0] == emitted[1]
    assert sorted(event.payload["n"] for event in children.events) == [0, 1, 2]
    by_n = {event.payload["n"]: event for event in children.events}
    assert by_n[1].metadata == {"correlationId": "order-7", "causationId": "parent", "tenant": "x"}


@pytest.mark.parametrize("amount", [4, 1, Decimal("4.0")])
async def test_second_transaction_after_one_that_was_applied_tells_whether_it_is_written(
    bank: Bank, amount: Any
) -> None:
    same = type(amount) is int and amount == 4
    lose = True
    bank.proxy.rule = lambda request: CUT_AFTER if request.operation == "TransactWriteItems" and lose else None
    outcomes: list[str] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        nonlocal lose
        try:
            async with delivery.transaction() as tx:
                debit(tx, bank, 4)
                tx.emit("paid", {"amount": 4})
                await bank.bus.emit("told", {"amount": 4}, transaction=tx)
        except StorageError as error:
            assert error.maybe_applied
        lose = False
        async with delivery.transaction() as tx:
            debit(tx, bank, amount)
            tx.emit("paid", {"amount": 4})
            # Its id is another one in each transaction.
            await bank.bus.emit("told", {"amount": 4}, transaction=tx)
        outcomes.append("committed")

    with giving_up_after(3):
        # The failure of the handler cannot be written: its transaction has completed the event.
        assert await handle_one(bank, handler) == int(same)
    assert await bank.balance("ada") == 6
    assert (await status_of(bank, "parent"))["status"] == {"S": "COMPLETED"}
    assert outcomes == (["committed"] if same else [])
    told = [str(error) for error in bank.errors]
    assert any("nothing of this transaction was written: an earlier transaction" in each for each in told) is not same


async def test_second_transaction_that_is_repeated_does_not_count_as_the_first_one(bank: Bank) -> None:
    faults: dict[int, Any] = {}
    transactions = 0

    def rule(request: Recorded) -> Any:
        nonlocal transactions
        transactions += request.operation == "TransactWriteItems"
        return faults.get(transactions, CUT_AFTER) if request.operation == "TransactWriteItems" else None

    bank.proxy.rule = rule

    async def handler(event: Event, delivery: Delivery) -> None:
        with pytest.raises(StorageError):
            async with delivery.transaction() as tx:
                debit(tx, bank, 4)
        # The first request of the second one is lost, so that it is repeated.
        faults.update({number: CUT_BEFORE if number == transactions + 1 else None for number in range(1, 100)})
        async with delivery.transaction() as tx:
            debit(tx, bank, 1)

    with giving_up_after(3):
        assert await handle_one(bank, handler) == 0
    assert await bank.balance("ada") == 6
    assert any("may not be written: an earlier transaction" in str(error) for error in bank.errors)
