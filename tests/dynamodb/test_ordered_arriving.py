"""Discards of events with an ordering key whose emit is under way: the event is stored, and no queue lists it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, Repaired
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.outcome import Completed
from reliability.proxy import Recorded
from tests.adapter_timing import with_timing
from tests.dynamodb.ordered import Shop, open_shop, orders, step_of

KEY = "order-17"
WHO: dict[str, Any] = {"reason": "the amount was wrong", "by": "ada@bastion"}
UNREAD_BIRTH = 1.0
ARRIVING = 2.0

Repair = Callable[[DynamoDBOutbox, str], Awaitable[Repaired]]
REPAIRS: dict[str, Repair] = {
    "discard": lambda outbox, event_id: outbox.discard([event_id], **WHO),
    "replace": lambda outbox, event_id: outbox.replace(
        event_id, Event("order.paid", id="new", ordering_key=KEY), **WHO
    ),
}
repairs = pytest.mark.parametrize("repair", REPAIRS)


@pytest.fixture
async def shop(endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(endpoint, table_name) as opened:
        with_timing(opened.outbox, unread_birth=UNREAD_BIRTH, arriving=ARRIVING)
        yield opened


class HeldAppend:
    """An emit that is claimed on emit, and whose append is held up by the network until `release`."""

    def __init__(self, shop: Shop, event: Event) -> None:
        self._came = anyio.Event()
        self._goes_on = anyio.Event()
        shop.proxy.rule = self._hold
        emit_claim, self.claims = shop.claiming(event)
        self._emit = asyncio.ensure_future(shop.outbox.publish([event], emit_claim=emit_claim))

    async def _hold(self, request: Recorded) -> None:
        if step_of(request) == "append" and not self._came.is_set():
            self._came.set()
            await self._goes_on.wait()

    async def came(self) -> None:
        """Wait until the event is stored."""
        await self._came.wait()

    async def release(self) -> list[Claim]:
        """Let the append through; return what the emit has claimed."""
        self._goes_on.set()
        await self._emit
        return self.claims


@repairs
async def test_event_that_was_discarded_before_its_append_is_not_claimed_on_emit(shop: Shop, repair: str) -> None:
    (event,) = orders(1)
    emit = HeldAppend(shop, event)
    await emit.came()
    assert await REPAIRS[repair](shop.outbox, event.id) == Repaired(done=(event.id,))
    for claim in await shop.outbox.claim(10):  # the new event
        assert claim.event.id == "new"
        assert await shop.outbox.settle([(claim, Completed())]) == [None]
    assert await emit.release() == []
    # The next worker that looks takes the event from its queue, and the key goes on.
    assert await shop.outbox.claim(10) == []
    assert await shop.line(KEY) == []
    assert await shop.status(event) == EventStatus.DISCARDED


@repairs
async def test_discard_comes_too_late_for_an_event_that_its_emit_claims_soon(shop: Shop, repair: str) -> None:
    (event,) = orders(1)
    emit = HeldAppend(shop, event)
    await emit.came()
    discarding = asyncio.ensure_future(REPAIRS[repair](shop.outbox, event.id))
    while shop.proxy.count("BatchGetItem") < 2:  # the event, and its queue
        await asyncio.sleep(0.01)
    (claim,) = await emit.release()
    assert shop.proxy.count("TransactWriteItems") == 0
    assert await discarding == Repaired(refused={event.id: EventStatus.PROCESSING})
    assert await shop.outbox.settle([(claim, Completed())]) == [None]
    assert await shop.status(event) == EventStatus.COMPLETED


async def test_event_that_is_listed_is_discarded_at_once(shop: Shop) -> None:
    with_timing(shop.outbox, arriving=3600.0)
    first, second = orders(2)
    await shop.bus.emit_many([first, second])
    assert await shop.outbox.discard([second.id, first.id], **WHO) == Repaired(done=(second.id, first.id))


async def test_discard_of_many_waits_once(shop: Shop) -> None:
    """Nobody knows which events the pages of a long line list, which are not read."""
    with_timing(shop.outbox, arriving=0.2)
    events = orders(40)
    await shop.bus.emit_many(events)
    waits = 0

    async def count(seconds: float) -> None:
        nonlocal waits
        waits += seconds == 0.2
        await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynamodb_outbox.dynamodb.operating.line_repairs.anyio.sleep", count)
        repaired = await shop.outbox.discard([event.id for event in events[10:20]], **WHO)
    assert len(repaired.done) == 10
    assert waits == 1
