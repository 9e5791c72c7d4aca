"""An event that waits in a queue is deleted by another program, and is emitted again with the same id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from dynamodb_outbox import Event
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.ordering.queue import queue_id, read_queue
from dynamodb_outbox.dynamodb.ordering.transitions import Pop, form_of
from dynamodb_outbox.outcome import Completed
from reliability.proxy import CUT_AFTER, Recorded
from tests.dynamodb.ordered import Shop, ids_of, open_shop, orders

KEY = "order-17"
FRONTS = {Pop.LAST: (1, 0), Pop.IDS: (2, 0), Pop.HEAD: (12, 0), Pop.UNHEAD: (12, 9), Pop.REFILL: (22, 9)}
"""How many events to emit, and how many to complete, until a POP has the form."""


@pytest.fixture(params=["one shard", "4 shards"])
async def shop(request: pytest.FixtureRequest, endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    shards = 4 if request.param == "4 shards" else 1
    async with open_shop(endpoint, table_name, shards=shards) as opened:
        yield opened


async def work_off(shop: Shop, claims: Sequence[Claim], *, most: int = 1000) -> list[str]:
    """Complete the claims and the events behind them; return their ids."""
    ids: list[str] = []
    while claims:
        ids += [claim.event.id for claim in claims]
        keep = len(ids) < most
        settled = await shop.outbox.settle([(claim, Completed()) for claim in claims], keep_keys=keep)
        claims = [each for each in settled if isinstance(each, Claim)]
    return ids


async def events_with_a_missing_front(shop: Shop, form: Pop) -> list[Event]:
    """Return the events of a queue whose front has been deleted, and would be popped in a form."""
    count, done = FRONTS[form]
    events = orders(count)
    for event in events:
        await shop.bus.emit(event)
    if done:
        assert await work_off(shop, await shop.outbox.claim(1), most=done) == ids_of(events[:done])
    item = await shop.item(queue_id(KEY))
    assert item is not None
    queue = read_queue(item)
    assert queue is not None
    assert (form_of(queue), queue.front) == (form, events[done].id)
    await shop.delete(events[done].id)
    shop.proxy.requests.clear()
    return events[done:]


@pytest.mark.parametrize("form", Pop)
async def test_missing_event_leaves_its_queue_only_while_it_is_missing(shop: Shop, form: Pop) -> None:
    _, *behind = await events_with_a_missing_front(shop, form)
    claims = await shop.outbox.claim(1)
    (transaction,) = shop.proxy.of("TransactWriteItems")
    assert transaction["TransactItems"][-1]["Delete"]["ConditionExpression"] == "attribute_not_exists(id)"
    assert await work_off(shop, claims) == ids_of(behind)
    assert await shop.line(KEY) == []


@pytest.mark.parametrize("form", Pop)
async def test_event_that_is_stored_again_before_its_id_is_taken_is_delivered(
    shop: Shop, form: Pop, caplog: pytest.LogCaptureFixture
) -> None:
    events = await events_with_a_missing_front(shop, form)
    emits = iter([shop.bus.emit(events[0])])

    async def rule(request: Recorded) -> None:
        if request.operation == "TransactWriteItems" and (emit := next(emits, None)) is not None:
            await emit

    shop.proxy.rule = rule
    claims = await shop.outbox.claim(1)
    assert len(shop.proxy.of("TransactWriteItems")) == 1
    assert await work_off(shop, claims) == ids_of(events)
    assert await shop.line(KEY) == []
    assert await shop.status(events[0]) == "COMPLETED"
    assert "is not stored any more" not in caplog.text


async def test_missing_event_is_looked_for_again_when_its_queue_has_grown(shop: Shop) -> None:
    (event,) = await events_with_a_missing_front(shop, Pop.LAST)
    (other,) = orders(1)
    emits = iter([shop.bus.emit(other), shop.bus.emit(event)])

    async def rule(request: Recorded) -> None:
        if request.operation == "TransactWriteItems" and (emit := next(emits, None)) is not None:
            await emit

    shop.proxy.rule = rule
    claims = await shop.outbox.claim(1)
    assert len(shop.proxy.of("TransactWriteItems")) == 2
    assert await work_off(shop, claims) == ids_of([event, other])


@pytest.mark.parametrize("form", Pop)
async def test_event_that_is_stored_again_after_an_unanswered_pop_is_appended(shop: Shop, form: Pop) -> None:
    events = await events_with_a_missing_front(shop, form)
    cuts = iter([CUT_AFTER])
    emits = iter([shop.bus.emit(events[0])])

    async def rule(request: Recorded) -> Any:
        if request.operation != "TransactWriteItems":
            return None
        if (cut := next(cuts, None)) is not None:
            return cut
        if (emit := next(emits, None)) is not None:
            await emit
        return None

    shop.proxy.rule = rule
    ids = await work_off(shop, await shop.outbox.claim(1))
    ids += await work_off(shop, await shop.outbox.claim(1))
    assert ids == ids_of([*events[1:], events[0]])
    assert await shop.line(KEY) == []
