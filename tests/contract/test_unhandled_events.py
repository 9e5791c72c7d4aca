"""Events without a handler, on every adapter: since when is kept with the event until a worker has a handler."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, NoHandlerError, OutboxEventBus
from dynamodb_outbox.adapter import Claim, Completed, Failed, HandlerDone, Released, Retry
from dynamodb_outbox.dynamodb.timing import Timing
from tests.adapter_timing import with_timing
from tests.contract.adapters import Adapter, claim_one, settle_one
from tests.fakes import Clock

PENDING, _, COMPLETED, FAILED, *_ = EventStatus
SINCE = 1_790_000_000.25


async def given_back(adapter: Adapter, clock: Clock, *, times: int = 1) -> Claim:
    """A claim of an event that other workers gave back."""
    await adapter.make().publish([Event("invoice.due", id="e")])
    for _ in range(times):
        held = await claim_one(adapter.make())
        assert await settle_one(adapter.make(), held, Released(delay=2.0, unhandled_since=SINCE)) is None
        clock.now += 2
    return await claim_one(adapter.make())


async def test_released_event_is_due_after_its_delay_and_counts_no_attempt(adapter: Adapter, clock: Clock) -> None:
    held = await given_back(adapter, clock, times=3)
    assert (held.attempt, held.unhandled_since) == (1, SINCE)
    stored = await adapter.stored("e")
    assert (stored["retries"], stored["error"], stored["unhandled_since"]) == (0, "", SINCE)


@pytest.mark.parametrize(
    "outcome", [Completed(), Retry(delay=0, error="x"), Failed(error="x"), Released(handled_by=frozenset({"h"}))]
)
async def test_outcome_of_a_worker_with_a_handler_ends_it(adapter: Adapter, clock: Clock, outcome: Any) -> None:
    held = await given_back(adapter, clock)
    # Twice, as after a reply that was lost.
    assert await settle_one(adapter.make(), held, outcome) is None
    if not isinstance(outcome, Released):
        assert await settle_one(adapter.make(), held, outcome) is None
    assert (await adapter.stored("e"))["unhandled_since"] is None


async def test_completion_by_a_transaction_ends_it(adapter: Adapter, clock: Clock) -> None:
    held = await given_back(adapter, clock)
    await adapter.make().transact([], [], done=HandlerDone(claim=held, handler="h", completes=True))
    stored = await adapter.stored("e")
    assert (stored["status"], stored["unhandled_since"]) == (COMPLETED, None)


async def test_recovery_ends_it_and_a_redrive_too(adapter: Adapter, clock: Clock) -> None:
    await given_back(adapter, clock)
    clock.now += 31
    await adapter.make().recover()
    assert (await adapter.stored("e"))["unhandled_since"] is None
    held = await claim_one(adapter.make())
    await settle_one(adapter.make(), held, Released(unhandled_since=SINCE))
    await claim_one(adapter.make())
    clock.now += 31
    assert (await adapter.make().recover(max_retries=0)).failed == ("e",)
    await adapter.make().redrive(["e"])
    stored = await adapter.stored("e")
    assert (stored["status"], stored["unhandled_since"]) == (PENDING, None)


@pytest.mark.parametrize(
    ("intervals", "taken"), [(Timing().intervals_for_others, ["f"]), (-1, ["e", "f"])], ids=["early", "late"]
)
async def test_worker_without_a_handler_lets_others_be_first_for_a_while(
    adapter: Adapter, clock: Clock, intervals: int, taken: list[str]
) -> None:
    lacking, having = (adapter.make(poll_interval=1.0) for _ in range(2))
    if not isinstance(lacking, DynamoDBOutbox):
        pytest.skip("an InMemoryOutbox has one process, whose buses share it")
    with_timing(lacking, intervals_for_others=intervals)
    await lacking.publish([Event("invoice.due", id="e"), Event("other", id="f")])
    for held in await lacking.claim(10):
        since = SINCE if held.event.id == "e" else None
        clock.now += 1
        await settle_one(lacking, held, Released(unhandled_since=since))
    assert sorted(held.event.id for held in await lacking.claim(10)) == taken
    left = {"e", "f"}.difference(taken)
    assert {held.event.id for held in await having.claim(10)} == left


@pytest.mark.parametrize(
    "odd", [{"N": "1E125"}, {"N": "-1E125"}, {"N": "99999999999999999"}, {"S": "noon"}, {"NULL": True}], ids=str
)
async def test_invalid_time_of_another_writer_is_ignored(
    local_client: Any, table_name: str, clock: Clock, odd: Any
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name, clock=clock, conditional_writes="batch")
    await outbox.create_table()
    await outbox.publish([Event("invoice.due", id="e")])
    names = {"id": {"S": "e"}}
    await local_client.update_item(
        TableName=table_name,
        Key=names,
        UpdateExpression="SET unhandledSince = :odd",
        ExpressionAttributeValues={":odd": odd},
    )
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    assert await bus.run_once() == 1
    assert [type(error) for error in errors] == [NoHandlerError]
    item = (await local_client.get_item(TableName=table_name, Key=names))["Item"]
    assert (item["status"], item["unhandledSince"]) == ({"S": "PENDING"}, {"N": str(int(clock.now * 1000))})


async def test_changed_handlers_are_given_what_had_no_handler_before(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(poll_interval=600)
    await outbox.publish([Event("invoice.due", id="e")])
    held = await claim_one(outbox)
    assert await settle_one(outbox, held, Released(delay=2.0, unhandled_since=SINCE)) is None
    clock.now += 2
    # The bus got a handler of the type.
    outbox.announce_handlers({"invoice.due": ["h"]})
    assert [claim.event.id for claim in await outbox.claim(1)] == ["e"]


async def test_other_workers_stay_first_while_the_handlers_here_stay_the_same(adapter: Adapter, clock: Clock) -> None:
    outbox = adapter.make(poll_interval=600)
    if not isinstance(outbox, DynamoDBOutbox):
        pytest.skip("an InMemoryOutbox has one process, whose buses share it")
    outbox.announce_handlers({"user.created": ["h"]})
    await outbox.publish([Event("invoice.due", id="e")])
    held = await claim_one(outbox)
    assert await settle_one(outbox, held, Released(delay=2.0, unhandled_since=SINCE)) is None
    clock.now += 2
    # A handler of `bus.once`, which is not announced, came and went.
    outbox.announce_handlers({"user.created": ["h"]})
    assert await outbox.claim(1) == []
    assert [claim.event.id for claim in await adapter.make().claim(1)] == ["e"]
