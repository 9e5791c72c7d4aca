"""Events with ordering keys in transactions: each key is one more write, and the queue may have no room for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    OutboxEventBus,
    TransactionCancelledError,
    TransactionTooLargeError,
)
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, queue_id
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, nth
from tests.dynamodb.bank import Bank, debit, status_of
from tests.dynamodb.ordered import carried_out_late, ids_of, line_of, orders, patient, stored
from tests.fakes import Recorder

KEY = "order-17"
TRANSACTION = "TransactWriteItems"


@pytest.fixture(autouse=True)
def _patience(bank: Bank) -> None:
    patient(bank.outbox)


async def line(bank: Bank, key: str = KEY) -> list[str]:
    return await line_of(bank.client, bank.outbox.table_name, key)


async def commit(bank: Bank, *events: Event, amount: int = 4) -> None:
    async with bank.bus.transaction() as tx:
        debit(tx, bank, amount)
        for event in events:
            tx.emit(event)


async def test_events_of_several_keys_are_stored_and_listed_with_the_writes(bank: Bank) -> None:
    events = [*orders(2), *orders(1, key="other"), Event("order.paid")]
    await commit(bank, *events)
    assert bank.proxy.operations().count(TRANSACTION) == 1
    assert (await line(bank), await line(bank, "other")) == (ids_of(events[:2]), ids_of(events[2:3]))
    assert [(await status_of(bank, event.id))["status"]["S"] for event in events] == ["QUEUED"] * 3 + ["PENDING"]
    queue = await status_of(bank, queue_id(KEY))
    assert (queue["status"], queue["claimToken"]) == ({"S": "PENDING"}, {"S": NOBODY})
    assert await bank.balance("ada") == 6


@pytest.mark.parametrize(
    ("waiting", "count"), [(0, 1), (4, 9), (10, 1), (10, 25), (14, 9), (14, 25), (0, 43), (25, 43)]
)
async def test_queue_lists_any_number_of_events_behind_those_that_wait(bank: Bank, waiting: int, count: int) -> None:
    before, events = orders(waiting), orders(count)
    await bank.bus.emit_many(before)
    await commit(bank, *events)
    assert await line(bank) == ids_of(before + events)
    after = orders(12)
    await bank.bus.emit_many(after)
    assert await line(bank) == ids_of(before + events + after)
    assert await bank.balance("ada") == 6


async def test_false_condition_of_the_user_is_told_though_a_queue_was_full(bank: Bank) -> None:
    before = orders(10)
    await bank.bus.emit_many(before)
    with pytest.raises(TransactionCancelledError) as caught:
        await commit(bank, *orders(1), amount=40)
    (reason,) = caught.value.reasons
    assert (reason.index, reason.operation, reason.table_name) == (0, "Update", bank.table)
    assert not caught.value.maybe_applied
    assert "dynamodb-outbox-key" not in str(caught.value)
    assert (await line(bank), await bank.balance("ada")) == (ids_of(before), 10)


async def test_event_that_waits_is_a_duplicate(bank: Bank) -> None:
    (event,) = orders(1, id="own")
    await bank.bus.emit(event)
    with pytest.raises(DuplicateEventError, match="so nothing of the transaction was written") as caught:
        await commit(bank, Event("order.paid", id="own", ordering_key=KEY))
    assert caught.value.stored == event
    assert isinstance(caught.value.__cause__, TransactionCancelledError)
    assert (await line(bank), await bank.balance("ada")) == (["own"], 10)


async def test_event_that_an_ended_emit_left_unlisted_is_listed(bank: Bank) -> None:
    await bank.bus.emit_many([*orders(1, id="own"), *orders(1)])
    await bank.client.delete_item(TableName=bank.outbox.table_name, Key={"id": {"S": queue_id(KEY)}})
    with pytest.raises(DuplicateEventError):
        await commit(bank, Event("order.paid", id="own", ordering_key=KEY), *orders(1))
    assert (await line(bank), await bank.balance("ada")) == (["own"], 10)


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize("waiting", [0, 10, 20])
async def test_transaction_whose_answer_is_lost_is_applied_once(bank: Bank, lost: str, waiting: int) -> None:
    before, events = orders(waiting), orders(2)
    await bank.bus.emit_many(before)
    # With a full queue, the second transaction is the one that was planned again.
    bank.proxy.rule = nth(1 if waiting == 0 else 2, TRANSACTION, lost)
    await commit(bank, *events)
    assert (await line(bank), await bank.balance("ada")) == (ids_of(before + events), 6)


@pytest.mark.parametrize("is_own", [False, True])
async def test_attempt_that_is_carried_out_late_is_not_forgotten(bank: Bank, *, is_own: bool) -> None:
    """The first attempt is not answered, its repeat finds the queue full, and then the first is carried out."""
    before, (event,) = orders(10), orders(1, id="own") if is_own else orders(1)
    await bank.bus.emit_many(before[:1])
    image = await status_of(bank, queue_id(KEY))
    full = {**image, "ids": {"L": [{"S": each.id} for each in before]}}
    bank.proxy.rule = carried_out_late(bank.client, full, puts=2)
    if is_own:
        # Somebody else may have stored the id, so that only the caller can know whether it was this transaction.
        with pytest.raises(DuplicateEventError, match="either it was applied, and has stored the event, or") as caught:
            await commit(bank, event)
        assert isinstance(caught.value.__cause__, TransactionCancelledError)
        assert caught.value.__cause__.maybe_applied
    else:
        await commit(bank, event)
    assert (await line(bank), await bank.balance("ada")) == (ids_of([before[0], event]), 6)


async def test_refusal_after_an_attempt_that_was_not_answered_may_still_be_applied(bank: Bank) -> None:
    before = orders(10)
    await bank.bus.emit_many(before)
    seen = 0

    async def rule(request: Recorded) -> Any:
        nonlocal seen
        if request.operation != TRANSACTION:
            return None
        seen += 1
        if seen == 3:
            # The queue was planned again, and now the account is empty.
            await bank.client.put_item(TableName=bank.table, Item={"id": {"S": "ada"}, "balance": {"N": "0"}})
        return CUT_BEFORE if seen == 1 else None

    bank.proxy.rule = rule
    with pytest.raises(TransactionCancelledError) as caught:
        await commit(bank, *orders(1))
    assert caught.value.maybe_applied
    assert await line(bank) == ids_of(before)


async def test_transactions_and_emits_of_one_key_lose_no_event(bank: Bank) -> None:
    other = OutboxEventBus(bank.outbox)
    lists = [orders(8) for _ in range(4)]

    async def in_transactions(bus: OutboxEventBus, events: list[Event]) -> None:
        for event in events:
            async with bus.transaction() as tx:
                tx.emit(event)

    async def one_by_one(bus: OutboxEventBus, events: list[Event]) -> None:
        for event in events:
            await bus.emit(event)

    works = [in_transactions(bank.bus, lists[0]), one_by_one(other, lists[1]), in_transactions(other, lists[2])]
    await asyncio.gather(*works, one_by_one(bank.bus, lists[3]))
    listed = await line(bank)
    for events in lists:
        own = set(ids_of(events))
        assert [each for each in listed if each in own] == ids_of(events)
    assert len(listed) == 32


async def test_items_of_queues_are_counted(bank: Bank) -> None:
    with pytest.raises(TransactionTooLargeError) as caught:
        async with bank.bus.transaction() as tx:
            for number in range(97):
                tx.delete(TableName=bank.table, Key={"id": f"{number}"})
            tx.emit("order.paid", ordering_key=KEY)
            tx.emit("order.paid", ordering_key=KEY)
    assert str(caught.value).startswith(
        "the transaction has 101 items (97 writes, 2 events, up to 2 for the queues of their ordering keys), but the"
    )
    assert bank.proxy.count(TRANSACTION) == 0
    async with bank.bus.transaction() as tx:
        for number in range(97):
            tx.delete(TableName=bank.table, Key={"id": f"{number}"})
        tx.emit("order.paid", ordering_key=KEY)


async def test_transact_items_refuses_events_with_a_key(bank: Bank) -> None:
    with pytest.raises(ConfigurationError, match=r"ordering key 'order-17'.*bus\.transaction\(\)"):
        bank.outbox.transact_items([Event("order.paid"), *orders(1)])


async def test_worker_of_the_process_is_woken(bank: Bank) -> None:
    bus, recorder = OutboxEventBus(bank.outbox), Recorder()
    bus.on("order.paid", recorder)
    async with bus:
        async with bus.transaction() as tx:
            events = [tx.emit("order.paid", {"n": n}, ordering_key=KEY) for n in range(12)]
        await bus.drain(timeout=60)
    assert [event.id for event in recorder.events] == ids_of(events)
    assert await stored(bank.client, bank.outbox.table_name, queue_id(KEY)) is None
