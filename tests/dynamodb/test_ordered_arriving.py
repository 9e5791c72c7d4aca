"""Discards of events with an ordering key whose emit is under way: the event is stored, and no queue lists it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, Repaired
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.operating import line_repairs
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.outcome import Completed
from reliability.proxy import Recorded
from tests.adapter_timing import with_timing
from tests.dynamodb.ordered import Shop, open_shop, orders, step_of
from tests.fakes import Clock

KEY = "order-17"
WHO: dict[str, Any] = {"reason": "the amount was wrong", "by": "ada@bastion"}
WAIT = 3600.0
"""How long a discard would wait for an emit, if the tests did not end the wait."""

Repair = Callable[[DynamoDBOutbox, str], Awaitable[Repaired]]
REPAIRS: dict[str, Repair] = {
    "discard": lambda outbox, event_id: outbox.discard([event_id], **WHO),
    "replace": lambda outbox, event_id: outbox.replace(
        event_id, Event("order.paid", id="new", ordering_key=KEY), **WHO
    ),
}
repairs = pytest.mark.parametrize("repair", REPAIRS)


class Wait:
    """The wait of a discard for an emit, which lasts until a test ends it."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = anyio.Event()
        self.over = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds != WAIT:
            await asyncio.sleep(seconds)
            return
        self.count += 1
        self.begun.set()
        await self.over.wait()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    wait = Wait()
    monkeypatch.setattr(line_repairs, "anyio", SimpleNamespace(sleep=wait.sleep))
    return wait


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def shop(endpoint: str, table_name: str, clock: Clock) -> AsyncIterator[Shop]:
    async with open_shop(endpoint, table_name, clock=clock) as opened:
        with_timing(opened.outbox, claim_without_read=1000.0, wait_for_emit=WAIT)
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


async def discard_during(emit: HeldAppend, shop: Shop, event: Event, repair: str, wait: Wait) -> None:
    """Discard or replace an event that is stored and not listed; a worker handles the event that replaces it."""
    await emit.came()
    wait.over.set()
    assert await REPAIRS[repair](shop.outbox, event.id) == Repaired(done=(event.id,))
    assert wait.count == 1
    for claim in await shop.outbox.claim(10):
        assert claim.event.id == "new"
        assert await shop.outbox.settle([(claim, Completed())]) == [None]


async def has_left_its_line(shop: Shop, event: Event) -> bool:
    """Tell whether the next worker that looks takes the event from its queue, and handles nothing."""
    assert await shop.outbox.claim(10) == []
    return await shop.line(KEY) == [] and await shop.status(event) == EventStatus.DISCARDED


@repairs
async def test_event_that_was_discarded_before_its_append_is_not_claimed_on_emit(
    shop: Shop, wait: Wait, repair: str
) -> None:
    with_timing(shop.outbox, claim_without_read=0.0)
    (event,) = orders(1)
    emit = HeldAppend(shop, event)
    await discard_during(emit, shop, event, repair, wait)
    assert await emit.release() == []
    assert await has_left_its_line(shop, event)


@repairs
async def test_clock_tells_that_the_machine_was_suspended_during_the_emit(
    shop: Shop, wait: Wait, clock: Clock, repair: str
) -> None:
    """The clock of the event loop stands still then."""
    (event,) = orders(1)
    emit = HeldAppend(shop, event)
    await discard_during(emit, shop, event, repair, wait)
    clock.now += 1001
    assert await emit.release() == []
    clock.now += shop.outbox.options.processing_timeout + 1
    await shop.outbox.recover()
    assert await has_left_its_line(shop, event)


@repairs
async def test_discard_comes_too_late_for_an_event_that_its_emit_claims_meanwhile(
    shop: Shop, wait: Wait, repair: str
) -> None:
    (event,) = orders(1)
    emit = HeldAppend(shop, event)
    await emit.came()
    discarding = asyncio.ensure_future(REPAIRS[repair](shop.outbox, event.id))
    with anyio.fail_after(60):
        await wait.begun.wait()
    (claim,) = await emit.release()
    wait.over.set()
    assert await discarding == Repaired(refused={event.id: EventStatus.PROCESSING})
    assert await shop.outbox.settle([(claim, Completed())]) == [None]
    assert await shop.status(event) == EventStatus.COMPLETED


async def test_events_that_are_listed_are_discarded_at_once(shop: Shop, wait: Wait) -> None:
    """The first of them is at the front, and some are in pages."""
    wait.over.set()
    events = orders(40)
    await shop.bus.emit_many(events)
    ids = [event.id for event in reversed(events)]
    assert await shop.outbox.discard(ids, **WHO) == Repaired(done=tuple(ids))
    assert wait.count == 0


async def test_discard_of_many_waits_once(shop: Shop, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discard does not search the pages of a line that is too long."""
    monkeypatch.setattr("dynamodb_outbox.dynamodb.ordering.standing.SEARCHED_PAGES", 0)
    wait.over.set()
    events = orders(40)
    await shop.bus.emit_many(events)
    ids = tuple(event.id for event in events[10:20])
    assert await shop.outbox.discard(ids, **WHO) == Repaired(done=ids)
    assert wait.count == 1


def test_wait_is_longer_than_claims_go_without_a_read() -> None:
    with pytest.raises(ValueError, match="wait_for_emit must be longer"):
        Timing(wait_for_emit=1.0)
