"""Outcomes of events in a window: how they leave it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import (
    DynamoDBOutbox,
    EventStatus,
    UnavailableError,
)
from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.dynamodb.items.codec import is_unlisted
from dynamodb_outbox.outcome import Completed, Failed, Released, Retry
from reliability.proxy import CUT_BEFORE, Proxy, Recorded
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.windows import Desk, keeping_leases, order, until
from tests.fakes import BLAMED

PENDING, PROCESSING, COMPLETED, FAILED, *_ = (str(status) for status in EventStatus)
NEW = "attribute_not_exists(id)"
NEW_OR_VOID = "attribute_not_exists(id) OR #status = :void"


OUTCOMES = {
    COMPLETED: Completed(),
    "retry": Retry(delay=0.0, error="no", **BLAMED),
    FAILED: Failed(error="no", **BLAMED),
    "release": Released(),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("shards", [1, 4])
async def test_outcome_moves_an_event_out_of_its_window(
    client: Any, table_name: str, outcome: str, shards: int
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch", shards=shards)
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        event, other = order(), order()
        await desk.emit(event)
        await desk.emit(other)
        assert is_unlisted(await desk.item(event))
        assert "statusShard" not in await desk.item(event)
        assert await desk.settle(event, outcome=OUTCOMES[outcome]) == [None]
        assert desk.window.open_count == 1
        assert "gsiSortKey" in await desk.item(event) or outcome == COMPLETED
        assert [len(await outbox.failed_events()), len(await outbox.claim(5))] == {
            COMPLETED: [0, 0],
            "retry": [0, 1],
            FAILED: [1, 0],
            "release": [0, 1],
        }[outcome]


@pytest.mark.parametrize("shards", [1, 4])
async def test_renewal_moves_an_event_into_the_index(client: Any, table_name: str, shards: int) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch", shards=shards)
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        event, other = order(), order()
        await desk.emit(event, other)
        now = outbox.options.clock()
        assert await outbox.renew([(desk.claims[event.id], now - 1.0)]) == [None]
        assert desk.window.open_count == 1
        # Its lease has run out: the recovery by the index finds it, and no other.
        assert (await outbox.recover()).reset == (event.id,)


async def test_event_whose_outcome_cannot_be_written_is_moved_into_the_index(desk: Desk, proxy: Proxy) -> None:
    events = [order(), order(), order()]
    for event in events:
        await desk.emit(event)

    def rule(request: Recorded) -> Any:
        settles = request.operation in {"BatchExecuteStatement", "UpdateItem"} and COMPLETED in str(request.body)
        return CUT_BEFORE if settles else None

    proxy.rule = rule
    with giving_up_after(2):
        errors = await desk.settle(events[0])
    assert isinstance(errors[0], UnavailableError)
    settle = asyncio.create_task(desk.settle(events[1]))
    await asyncio.sleep(0.05)
    settle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settle
    # The rule stays: the request of the cancelled settle may reach the proxy only now.
    await until(lambda: desk.window.open_count == 1)
    assert is_unlisted(await desk.item(events[2]))
    claims = await desk.outbox.claim(5)
    assert {claim.event.id: claim.attempt for claim in claims} == {events[0].id: 2, events[1].id: 2}


async def test_refused_outcome_moves_an_event_out_of_its_window(desk: Desk) -> None:
    event = order()
    await desk.emit(event)
    await desk.put({**await desk.item(event), "claimToken": {"S": "of another worker"}})
    (error,) = await desk.settle(event)
    assert error is not None
    assert desk.window.open_count == 0


@pytest.mark.parametrize("completes", [False, True])
async def test_transaction_of_a_handler_ends_its_event_only_if_it_completes_it(desk: Desk, *, completes: bool) -> None:
    event = order()
    await desk.emit(event)
    done = HandlerDone(claim=desk.claims[event.id], handler="ship", completes=completes)
    await desk.outbox.transact([], [(order(), None)], done=done)
    assert desk.window.open_count == (0 if completes else 1)
    assert is_unlisted(await desk.item(event)) != completes


async def test_worker_that_stops_deletes_its_window(inserting: Desk) -> None:
    window = inserting.window
    assert await inserting.item(window.item_id)
    await inserting.emit(event := order())
    await inserting.retire()
    assert await inserting.item(window.item_id), "an event is open"
    await inserting.settle(event)
    await inserting.retire()
    assert not await inserting.item(window.item_id)
