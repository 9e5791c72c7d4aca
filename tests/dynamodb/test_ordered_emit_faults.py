"""Emits with ordering keys among faults: no event is lost, listed twice while it waits, or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from dynamodb_outbox import Event, OutboxEventBus, PartialPublishError, StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.dynamodb.ordering.queue import queue_id
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, refused
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.ordered import Shop, ids_of, nth_step, open_shop, orders, step_of, steps_of
from tests.fakes import Recorder

KEY = "order-17"
STEPS = [("put", 0), ("put", 20), ("append", 0), ("append", 3), ("split", 10), ("spill", 20), ("spill", 40)]
"""Each step of an emit, and how many events wait before it."""


@pytest.fixture
async def shop(local_endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(local_endpoint, table_name) as opened:
        yield opened


def throttled() -> Any:
    return refused("ThrottlingException", "slow down")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
@pytest.mark.parametrize(("step", "waiting"), STEPS)
async def test_event_whose_answer_is_lost_is_listed_once(
    endpoint: str, table_name: str, step: str, waiting: int, lost: str
) -> None:
    async with open_shop(endpoint, table_name) as shop:
        await shop.bus.emit_many(before := orders(waiting))
        shop.proxy.rule = nth_step(1, step, lost)
        shop.proxy.requests.clear()
        await shop.bus.emit(event := orders(1)[0])
        assert await shop.line(KEY) == ids_of([*before, event])
        assert await shop.status(event) == "QUEUED"
        assert steps_of(shop.proxy).count(step) == 2


@pytest.mark.parametrize("is_handled", [False, True])
@pytest.mark.parametrize(("step", "waiting"), STEPS)
async def test_step_that_is_carried_out_late_changes_nothing(
    shop: Shop, step: str, waiting: int, *, is_handled: bool
) -> None:
    await shop.bus.emit_many(before := orders(waiting))
    late: list[Recorded] = []

    def rule(request: Recorded) -> Any:
        if step_of(request) != step or late:
            return None
        late.append(request)
        return CUT_BEFORE

    shop.proxy.rule = rule
    await shop.bus.emit(event := orders(1)[0])
    bus, handled = OutboxEventBus(shop.outbox), Recorder()
    bus.on("order.paid", handled)
    if is_handled:
        async with bus:
            await bus.drain(timeout=100)
    operation = {"put": "put_item", "spill": "transact_write_items"}.get(step, "update_item")
    with suppress(ClientError):
        await getattr(shop.client, operation)(**late[0].body)
    if not is_handled:
        assert await shop.line(KEY) == ids_of([*before, event])
    # An id that is listed again, once its event is done, is taken from the queue without a handler.
    async with bus:
        await bus.drain(timeout=100)
    assert [each.id for each in handled.events] == ids_of([*before, event])
    assert (await shop.line(KEY), await shop.status(event)) == ([], "COMPLETED")


async def test_append_that_is_throttled_until_the_deadline_is_told(shop: Shop) -> None:
    shop.proxy.rule = lambda request: throttled() if step_of(request) == "append" else None
    (event,) = orders(1)
    with giving_up_after(3), pytest.raises(ThrottledError) as caught:
        await shop.bus.emit(event)
    # The event is stored, though not listed: its id is taken.
    assert caught.value.maybe_applied
    assert (steps_of(shop.proxy), await shop.line(KEY)) == (["put", *["append"] * 3], [])
    shop.proxy.rule = lambda request: None
    again = await shop.bus.emit(event, if_exists="ignore")
    assert again is not None
    assert again.already_stored
    assert await shop.line(KEY) == [event.id]


@pytest.mark.parametrize("code", ["TransactionConflictException", "ProvisionedThroughputExceededException"])
async def test_append_that_meets_a_transaction_is_repeated(shop: Shop, code: str) -> None:
    shop.proxy.rule = nth_step(1, "append", refused(code))
    await shop.bus.emit(event := orders(1)[0])
    assert await shop.line(KEY) == [event.id]


async def test_what_is_listed_of_a_list_is_its_first_part(shop: Shop) -> None:
    events, others = orders(24), orders(2, key="other")
    appends = 0

    def rule(request: Recorded) -> Any:
        nonlocal appends
        if step_of(request) not in ("append", "split") or queue_id(KEY) not in str(request.body):
            return None
        appends += 1
        return throttled() if appends > 1 else None

    shop.proxy.rule = rule
    with giving_up_after(2), pytest.raises(PartialPublishError) as caught:
        await shop.bus.emit_many([*events, *others])
    error = caught.value
    assert (error.published, error.failed) == ([*events[:10], *others], events[10:])
    causes = list(error.causes.values())
    assert all(isinstance(cause, StorageError) and cause.maybe_applied for cause in causes)
    assert [isinstance(cause, ThrottledError) for cause in causes] == [True] * 10 + [False] * 4
    assert "is not delivered before you emit it again" in str(causes[-1])
    assert (await shop.line(KEY), await shop.line("other")) == (ids_of(events[:10]), ids_of(others))
    shop.proxy.rule = lambda request: None
    await shop.bus.emit_many(error.failed, if_exists="ignore")
    assert await shop.line(KEY) == ids_of(events)


async def test_events_behind_one_that_cannot_be_stored_are_not_listed(local_endpoint: str, table_name: str) -> None:
    async with open_shop(local_endpoint, table_name, conditional_writes="single") as shop:
        events = orders(5)
        shop.proxy.rule = lambda request: (
            refused("AccessDeniedException")
            if request.operation == "PutItem" and request.body["Item"]["id"]["S"] == events[2].id
            else None
        )
        with pytest.raises(PartialPublishError) as caught:
            await shop.bus.emit_many(events)
        assert (caught.value.published, caught.value.failed) == (events[:2], events[2:])
        assert await shop.line(KEY) == ids_of(events[:2])
        shop.proxy.rule = lambda request: None
        await shop.bus.emit_many(caught.value.failed, if_exists="ignore")
        assert await shop.line(KEY) == ids_of(events)


class Gate:
    """Holds requests of a step back."""

    def __init__(self, shop: Shop, step: str, *, answer: Any = None) -> None:
        self.held = 0
        self.is_open = anyio.Event()
        self._answer = answer

        async def hold() -> Any:
            self.held += 1
            await self.is_open.wait()
            return self._answer

        shop.proxy.rule = lambda request: hold() if step_of(request) == step and not self.is_open.is_set() else None


async def waiting_emits(shop: Shop, events: list[Event]) -> list[asyncio.Task[Event | None]]:
    """Begin emits, and wait until their events are stored."""
    tasks = [asyncio.create_task(shop.bus.emit(event)) for event in events]
    await until(lambda: steps_of(shop.proxy).count("put") >= 1)
    for event in events:
        while await shop.status(event) is None:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    return tasks


async def test_cancelled_emit_that_waits_behind_an_append_is_not_appended(shop: Shop) -> None:
    gate, (first, second, third) = Gate(shop, "append"), orders(3)
    (running,) = await waiting_emits(shop, [first])
    await until(lambda: gate.held == 1)
    others = await waiting_emits(shop, [second, third])
    others[0].cancel()
    await asyncio.wait([others[0]])
    gate.is_open.set()
    await asyncio.gather(running, others[1])
    assert await shop.line(KEY) == ids_of([first, third])


async def test_cancelled_emit_that_shares_an_append_does_not_end_it(shop: Shop) -> None:
    first_gate, (first, second, third) = Gate(shop, "append"), orders(3)
    (running,) = await waiting_emits(shop, [first])
    await until(lambda: first_gate.held == 1)
    others = await waiting_emits(shop, [second, third])
    second_gate = Gate(shop, "append")
    first_gate.is_open.set()
    await until(lambda: second_gate.held == 1)
    others[0].cancel()
    await asyncio.wait([others[0]])
    second_gate.is_open.set()
    await asyncio.gather(running, others[1])
    assert sorted(await shop.line(KEY)) == sorted(ids_of([first, second, third]))


@pytest.mark.parametrize("answer", [CUT_BEFORE, refused("ThrottlingException")])
async def test_append_whose_callers_have_all_given_up_is_not_repeated(shop: Shop, answer: Any) -> None:
    gate, (first, second) = Gate(shop, "append", answer=answer), orders(2)
    (given_up,) = await waiting_emits(shop, [first])
    await until(lambda: gate.held == 1)
    given_up.cancel()
    await asyncio.wait([given_up])
    gate.is_open.set()
    await shop.outbox._parts.publisher.finish()
    assert steps_of(shop.proxy).count("append") == 1
    # The line goes on.
    await shop.bus.emit(second)
    assert await shop.line(KEY) == [second.id]


async def test_append_that_is_never_answered_may_be_applied(shop: Shop) -> None:
    shop.proxy.rule = lambda request: CUT_AFTER if step_of(request) == "append" else None
    (event,) = orders(1)
    with giving_up_after(2), pytest.raises(UnavailableError) as caught:
        await shop.bus.emit(event)
    assert caught.value.maybe_applied
    shop.proxy.rule = lambda request: None
    await shop.bus.emit(event, if_exists="ignore")
    assert await shop.line(KEY) == [event.id]


async def test_item_that_is_no_queue_is_told(shop: Shop) -> None:
    item = {"id": {"S": queue_id(KEY)}, "ids": {"S": "not a list of ids"}}
    await shop.client.put_item(TableName=shop.outbox.table_name, Item=item)
    with pytest.raises(StorageError, match="'dynamodb-outbox-key/order-17' is not a queue of an ordering key"):
        await shop.bus.emit(orders(1)[0])
