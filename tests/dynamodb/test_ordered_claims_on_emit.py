"""Claims on emit of events with ordering keys: the append that creates a queue claims it for this worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from benchmarks.units import MeteringClient, Projection
from dynamodb_outbox import DynamoDBOutbox, Event, StorageError, UnavailableError
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, queue_id
from dynamodb_outbox.observations import Observation, Published
from dynamodb_outbox.outcome import Completed
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, refused
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.ordered import Shop, check_claim, ids_of, nth_step, open_shop, orders, patient, queue_of, step_of
from tests.fakes import Recorder

KEY = "order-17"


@pytest.fixture
async def shop(endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(endpoint, table_name) as opened:
        yield opened


@pytest.fixture
async def local_shop(local_endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(local_endpoint, table_name) as opened:
        yield opened


async def publish(shop: Shop, *events: Event) -> list[Claim]:
    emit_claim, claims = shop.claiming(*events)
    await shop.outbox.publish(events, emit_claim=emit_claim)
    return claims


async def test_append_that_creates_a_queue_claims_it(shop: Shop) -> None:
    (event,) = orders(1)
    (claim,) = await publish(shop, event)
    await check_claim(shop, event, claim)


async def test_append_to_a_queue_that_exists_claims_nothing(shop: Shop) -> None:
    first, second, third = orders(3)
    await shop.outbox.publish([first])
    assert await publish(shop, second) == []
    assert await queue_of(shop) == ("PENDING", NOBODY)
    (claim,) = await shop.outbox.claim(10)
    assert await publish(shop, third) == []
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert await shop.line(KEY) == ids_of([first, second, third])


async def test_only_the_first_of_a_list_is_claimed(shop: Shop) -> None:
    events = orders(12)
    claims = await publish(shop, *events)
    assert [claim.event.id for claim in claims] == [events[0].id]
    assert await shop.line(KEY) == ids_of(events)


async def test_event_that_was_stored_before_claims_nothing(shop: Shop) -> None:
    (event,) = orders(1)
    await shop.outbox.publish([event])
    await shop.delete(queue_id(KEY))
    with pytest.raises(Exception, match="is stored already"):
        await publish(shop, event)
    assert await queue_of(shop) == ("PENDING", NOBODY)


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
async def test_birth_whose_answer_is_lost_is_claimed_after_the_event_was_loaded(shop: Shop, lost: str) -> None:
    shop.proxy.rule = nth_step(1, "append", lost)
    (event,) = orders(1)
    (claim,) = await publish(shop, event)
    assert claim.event == event
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert shop.proxy.count("BatchGetItem") == 1
    assert await shop.outbox.settle([(claim, Completed())]) == [None]


async def test_put_whose_answer_is_lost_claims_nothing(shop: Shop) -> None:
    shop.proxy.rule = nth_step(1, "put", CUT_AFTER)
    assert await publish(shop, *orders(1)) == []
    assert await queue_of(shop) == ("PENDING", NOBODY)


async def test_event_that_was_handled_meanwhile_is_not_handled_again(local_shop: Shop) -> None:
    """The queue is created, worked off and deleted, before a repeat creates it again."""
    shop, (event,) = local_shop, orders(1)

    async def work_off(request: Recorded) -> Any:
        await shop.client.update_item(**request.body)
        await mark_completed(shop, event)
        await shop.delete(queue_id(KEY))
        return CUT_BEFORE

    shop.proxy.rule = once("append", work_off)
    assert await publish(shop, event) == []
    # The load has found it marked, and has popped it.
    assert await shop.line(KEY) == []


async def test_event_of_an_id_that_another_emit_has_brought_to_its_end_is_not_handled_again(local_shop: Shop) -> None:
    """Between the put and the append, another emit of the id appends the event, and a worker handles it."""
    shop, event = local_shop, Event("order.placed", id="order-17-placed", ordering_key=KEY)

    async def handled_before(request: Recorded) -> Any:
        await mark_completed(shop, event)
        return None

    shop.proxy.rule = once("append", handled_before)
    assert await publish(shop, event) == []
    assert await shop.line(KEY) == []


async def test_emits_of_one_append_do_not_wait_for_the_load_of_the_first(local_shop: Shop) -> None:
    shop, let_fail, let_load = local_shop, asyncio.Event(), asyncio.Event()
    (before,), (other,) = orders(1), orders(1)
    event = Event("order.placed", id="order-17-placed", ordering_key=KEY)

    def rule(request: Recorded) -> Any:
        if step_of(request) == "append" and before.id in str(request.body):
            return refused_after(let_fail)
        return let_load.wait() if request.operation == "BatchGetItem" else None

    shop.proxy.rule = rule
    waiting = shop.outbox._parts.publisher._ordered._lines._waiting
    emits = [asyncio.create_task(publish(shop, before))]
    with anyio.fail_after(60):
        while not shop.proxy.count("UpdateItem"):
            await anyio.sleep(0.01)
        emits.append(asyncio.create_task(publish(shop, event)))
        while not waiting[KEY]:
            await anyio.sleep(0.01)
        emits.append(asyncio.create_task(publish(shop, other)))
        while len(waiting[KEY]) < 2:
            await anyio.sleep(0.01)
        let_fail.set()
        with pytest.raises(StorageError):
            await emits[0]
        assert await emits[2] == []
        assert not emits[1].done()
        let_load.set()
        (claim,) = await emits[1]
    assert claim.event.id == event.id
    assert await shop.line(KEY) == [event.id, other.id]


async def refused_after(moment: asyncio.Event) -> Any:
    await moment.wait()
    return refused("AccessDeniedException")


async def test_own_id_is_claimed_on_emit_after_the_event_was_loaded(local_shop: Shop) -> None:
    event = Event("order.placed", id="order-17-placed", ordering_key=KEY)
    (claim,) = await publish(local_shop, event)
    assert claim.event == event
    assert local_shop.proxy.count("BatchGetItem") == 1


async def test_queue_whose_first_event_was_handled_meanwhile_is_released(local_shop: Shop) -> None:
    shop, (event, other) = local_shop, orders(2)

    async def handle_the_first(request: Recorded) -> Any:
        await shop.client.update_item(**request.body)
        await mark_completed(shop, event)
        return CUT_BEFORE

    shop.proxy.rule = once("append", handle_the_first)
    assert await publish(shop, event, other) == []
    assert (await queue_of(shop))[0] == "PENDING"
    assert await shop.line(KEY) == [other.id]


async def test_birth_that_is_never_answered_is_released(local_shop: Shop) -> None:
    shop = local_shop
    losing = True
    shop.proxy.rule = lambda request: CUT_AFTER if losing and step_of(request) == "append" else None
    (event,) = orders(1)
    with giving_up_after(3):
        with pytest.raises(UnavailableError) as caught:
            await publish(shop, event)
        # After the answer to the caller, in the background.
        await shop.outbox._parts.publisher.finish()
    assert caught.value.maybe_applied
    assert (await queue_of(shop))[0] == "PENDING"
    losing = False
    (claim,) = await shop.outbox.claim(10)
    assert claim.event == event


async def test_birth_whose_caller_has_given_up_is_released(local_shop: Shop) -> None:
    shop, gate = local_shop, anyio.Event()
    sent = anyio.Event()

    async def hold(request: Recorded) -> None:
        sent.set()
        await gate.wait()

    shop.proxy.rule = lambda request: hold(request) if step_of(request) == "append" else None
    (event,) = orders(1)
    emit_claim, claims = shop.claiming(event)
    task = asyncio.create_task(shop.outbox.publish([event], emit_claim=emit_claim))
    await sent.wait()
    task.cancel()
    await asyncio.wait([task])
    gate.set()
    await shop.outbox._parts.publisher.finish()
    assert claims == []
    assert (await queue_of(shop))[0] == "PENDING"


async def test_worker_handles_events_of_a_key_in_order_and_observers_see_each_published_once(shop: Shop) -> None:
    recorder, seen = Recorder(), list[Observation]()
    shop.bus.on("order.paid", recorder)
    shop.bus.add_observer(seen.append)
    async with shop.bus:
        for event in (events := orders(6)):
            await shop.bus.emit(event)
        await shop.bus.emit_many(more := orders(13))
        await shop.bus.drain(timeout=60)
    assert [event.id for event in recorder.events] == ids_of(events + more)
    published = [each.event_id for each in seen if isinstance(each, Published)]
    assert sorted(published) == sorted(ids_of(events + more))


async def units_of(client: Any, table_name: str, event: Event, projection: Projection) -> float:
    """Emit and complete an event that is claimed on emit, and count its write units."""
    metering: Any = MeteringClient(client, projection)
    outbox = patient(DynamoDBOutbox(metering, table_name=table_name, conditional_writes="single"))
    await outbox.create_table(projection=projection)
    metering.start_over()
    emit_claim, claims = Shop.claiming(event)
    await outbox.publish([event], emit_claim=emit_claim)
    (claim,) = claims
    assert await outbox.settle([(claim, Completed())]) == [None]
    assert (metering.read, metering.refused) == (0, 0)
    written: float = sum(metering.written.values())
    return written


@pytest.mark.parametrize(("size", "projection", "units"), [(700, "ALL", 6), (700, "KEYS_ONLY", 6), (9_900, "ALL", 24)])
async def test_event_that_is_claimed_on_emit_costs_six_units(
    local_client: Any, table_name: str, size: int, projection: Projection, units: int
) -> None:
    event = Event("order.paid", {"text": "x" * size}, ordering_key=KEY)
    assert await units_of(local_client, table_name, event, projection) == units


@pytest.mark.parametrize(("length", "units"), [(400, 6), (1_024, 16)])
async def test_long_key_costs_more_with_every_write(
    local_client: Any, table_name: str, length: int, units: int
) -> None:
    event = Event("order.paid", ordering_key="k" * length)
    assert await units_of(local_client, table_name, event, "ALL") == units


def once(step: str, act: Callable[[Recorded], Any]) -> Callable[[Recorded], Any]:
    """Do something in place of the first request of a step."""
    is_over = False

    def rule(request: Recorded) -> Any:
        nonlocal is_over
        if is_over or step_of(request) != step:
            return None
        is_over = True
        return act(request)

    return rule


async def mark_completed(shop: Shop, event: Event) -> None:
    await shop.client.update_item(
        TableName=shop.outbox.table_name,
        Key={"id": {"S": event.id}},
        UpdateExpression="SET #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": "COMPLETED"}},
    )
