"""Claims on emit of events with ordering keys in transactions: after the commit, a read tells whose queue it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from benchmarks.units import MeteringClient, Projection
from dynamodb_outbox import (
    Delivery,
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    TransactionTooLargeError,
    UnavailableError,
)
from dynamodb_outbox.claims import Claim, HandlerDone
from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, queue_id
from dynamodb_outbox.observations import HandlerFailed
from dynamodb_outbox.outcome import Completed
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Recorded, nth, refused
from reliability.resources import tasks_left
from tests.adapter_timing import with_timing
from tests.dynamodb.impatience import giving_up_after
from tests.dynamodb.ordered import Shop, carried_out_late, check_claim, ids_of, open_shop, orders, queue_of
from tests.fakes import Recorder
from tests.timing import set_timing

KEY = "order-17"
TRANSACTION, READ = "TransactWriteItems", "BatchGetItem"


@pytest.fixture
async def shop(local_endpoint: str, table_name: str) -> AsyncIterator[Shop]:
    async with open_shop(local_endpoint, table_name, conditional_writes="single", poll_interval=60.0) as opened:
        yield opened


async def transact(shop: Shop, *events: Event, done: HandlerDone | None = None) -> list[Claim]:
    """Commit events; return the claims that were made."""
    emit_claim, claims = shop.claiming(*events)
    await shop.outbox.transact([], [(event, None) for event in events], done=done, emit_claim=emit_claim)
    return claims


async def released(shop: Shop) -> None:
    """Wait until the queues are released that a transaction gave up, in the background."""
    await shop.outbox._parts.claims.finish()


def read_of(shop: Shop) -> dict[str, Any]:
    """The read of the queues after the commit."""
    (read,) = [request.body for request in shop.proxy.requests if request.operation == READ]
    found: dict[str, Any] = read["RequestItems"][shop.outbox.table_name]
    return found


async def test_transaction_that_creates_a_queue_claims_it(shop: Shop) -> None:
    (event,) = orders(1)
    (claim,) = await transact(shop, event)
    assert shop.proxy.operations() == [TRANSACTION, READ]
    assert read_of(shop) == {"Keys": [{"id": {"S": queue_id(KEY)}}], "ConsistentRead": True}
    await check_claim(shop, event, claim)


async def test_event_of_an_own_id_is_claimed_without_a_read_of_the_event(shop: Shop) -> None:
    """Unlike after a put and an append: what stores the event is what creates the queue."""
    (claim,) = await transact(shop, Event("order.paid", id="order-17-paid", ordering_key=KEY))
    assert claim.event.id == "order-17-paid"
    assert shop.proxy.operations() == [TRANSACTION, READ]


async def test_first_event_of_each_key_is_claimed_and_one_read_shows_all_queues(shop: Shop) -> None:
    events = [*orders(3), *orders(25, key="long"), Event("order.paid"), *orders(1, key="other")]
    claims = await transact(shop, *events)
    assert {claim.event.id for claim in claims} == {events[n].id for n in (0, 3, 28, 29)}
    assert shop.proxy.operations() == [TRANSACTION, READ]
    settled = await shop.outbox.settle([(claim, Completed()) for claim in claims], keep_keys=True)
    assert {each.event.id for each in settled if isinstance(each, Claim)} == {events[1].id, events[4].id}


@pytest.mark.parametrize("waiting", [1, 9])
async def test_queue_that_exists_is_not_claimed(shop: Shop, waiting: int) -> None:
    before, (event,) = orders(waiting), orders(1)
    await shop.outbox.publish(before)
    assert await transact(shop, event) == []
    assert await queue_of(shop) == ("PENDING", NOBODY)
    (claim,) = await shop.outbox.claim(10)
    (later,) = orders(1)
    assert await transact(shop, later) == []
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert await shop.line(KEY) == ids_of([*before, event, later])


async def test_queue_that_was_full_is_neither_claimed_nor_read(shop: Shop) -> None:
    before, events = orders(20), orders(2)
    await shop.outbox.publish(before)
    shop.proxy.requests.clear()
    assert await transact(shop, *events) == []
    assert shop.proxy.operations() == [TRANSACTION, TRANSACTION]
    assert await shop.line(KEY) == ids_of(before + events)


async def test_queue_whose_first_event_has_no_token_is_neither_claimed_nor_read(shop: Shop) -> None:
    reserved, (first, second) = Event("order.paid"), orders(2)
    emit_claim, claims = shop.claiming(reserved, second)
    await shop.outbox.transact([], [(event, None) for event in (reserved, first, second)], emit_claim=emit_claim)
    assert [claim.event for claim in claims] == [reserved]
    assert shop.proxy.operations() == [TRANSACTION]
    assert await queue_of(shop) == ("PENDING", NOBODY)


async def test_transaction_that_is_too_large_sends_nothing(shop: Shop) -> None:
    with pytest.raises(TransactionTooLargeError):
        await transact(shop, *orders(91))
    assert shop.proxy.operations() == []


async def test_delivery_does_not_claim_the_queue_that_it_holds_a_second_time(shop: Shop) -> None:
    await shop.outbox.publish(orders(1))
    (claim,) = await shop.outbox.claim(1)
    (child,), (other,) = orders(1), orders(1, key="other")
    done = HandlerDone(claim=claim, handler="bill", completes=True)
    shop.proxy.requests.clear()
    claims = await transact(shop, child, other, done=done)
    assert [each.event for each in claims] == [other]
    assert read_of(shop)["Keys"] == [{"id": {"S": queue_id("other")}}]
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert await shop.outbox.settle([(claim, Completed()), (claims[0], Completed())]) == [None, None]
    (following,) = await shop.outbox.claim(10)
    assert following.event == child


# Faults


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
async def test_commit_whose_answer_is_lost_claims_the_queue(shop: Shop, lost: str) -> None:
    shop.proxy.rule = nth(1, TRANSACTION, lost)
    (event,) = orders(1)
    (claim,) = await transact(shop, event)
    assert claim.event == event
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert await shop.outbox.settle([(claim, Completed())]) == [None]


@pytest.mark.parametrize("lost", [CUT_AFTER, CUT_BEFORE])
async def test_read_whose_answer_is_lost_is_repeated(shop: Shop, lost: str) -> None:
    shop.proxy.rule = nth(1, READ, lost)
    (claim,) = await transact(shop, *orders(1))
    assert await queue_of(shop) == ("PROCESSING", claim.token)


async def test_queue_that_cannot_be_read_is_released(shop: Shop) -> None:
    shop.proxy.rule = lambda request: refused("AccessDeniedException") if request.operation == READ else None
    (event,), (other,) = orders(1), orders(1, key="other")
    assert await transact(shop, event, other) == []
    await released(shop)
    assert [(await queue_of(shop, key))[0] for key in (KEY, "other")] == ["PENDING", "PENDING"]
    shop.proxy.rule = lambda request: None
    assert {claim.event.id for claim in await shop.outbox.claim(10)} == {event.id, other.id}


async def test_caller_does_not_wait_for_the_release_of_a_queue_that_cannot_be_read(shop: Shop) -> None:
    go_on = anyio.Event()

    async def hold(request: Recorded) -> Any:
        if request.operation == READ:
            return refused("AccessDeniedException")
        if request.operation == "UpdateItem":
            await go_on.wait()
        return None

    shop.proxy.rule = hold
    with anyio.fail_after(60):
        assert await transact(shop, *orders(1)) == []
    assert (await queue_of(shop))[0] == "PROCESSING"
    go_on.set()
    await released(shop)
    assert (await queue_of(shop))[0] == "PENDING"


async def test_worker_that_stops_waits_for_the_release(shop: Shop) -> None:
    async def act(request: Recorded) -> Any:
        if request.operation == READ:
            return refused("AccessDeniedException")
        if request.operation == "UpdateItem" and queue_id(KEY) in str(request.body):
            await anyio.sleep(0.3)
        return None

    set_timing(shop.bus, retire_seconds=60.0)
    shop.bus.on("order.paid", recorder := Recorder())
    async with shop.bus:
        shop.proxy.rule = act
        async with shop.bus.transaction() as tx:
            tx.emit("order.paid", ordering_key=KEY)
        assert (await queue_of(shop))[0] == "PROCESSING"
    assert tasks_left() == ()
    assert (await queue_of(shop))[0] == "PENDING"
    assert recorder.events == []


async def test_outbox_that_is_closed_waits_for_the_release(local_endpoint: str, table_name: str) -> None:
    async with open_shop(local_endpoint, table_name) as shop:
        shop.proxy.rule = lambda request: refused("AccessDeniedException") if request.operation == READ else None
        async with DynamoDBOutbox.connect(
            table_name=table_name, region_name="us-east-1", endpoint_url=shop.proxy.endpoint
        ) as outbox:
            (event,) = orders(1)
            emit_claim, claims = shop.claiming(event)
            await outbox.transact([], [(event, None)], emit_claim=emit_claim)
        assert claims == []
        assert (await queue_of(shop))[0] == "PENDING"


async def test_commit_that_is_never_answered_is_released(shop: Shop) -> None:
    shop.proxy.rule = lambda request: CUT_AFTER if request.operation == TRANSACTION else None
    (event,) = orders(1)
    with giving_up_after(3), pytest.raises(UnavailableError) as caught:
        await transact(shop, event)
    assert caught.value.maybe_applied
    await released(shop)
    assert (await queue_of(shop))[0] == "PENDING"
    (claim,) = await shop.outbox.claim(10)
    assert claim.event == event


async def test_commit_that_was_not_applied_releases_nothing(shop: Shop) -> None:
    shop.proxy.rule = lambda request: refused("AccessDeniedException") if request.operation == TRANSACTION else None
    with pytest.raises(Exception, match="AccessDenied"):
        await transact(shop, *orders(1))
    assert shop.proxy.operations() == [TRANSACTION]


async def test_slow_commit_reads_the_event_too(shop: Shop) -> None:
    with_timing(shop.outbox, claim_without_read=0.0)
    (claim,) = await transact(shop, *orders(1))
    assert shop.proxy.operations() == [TRANSACTION, READ, READ]
    assert await queue_of(shop) == ("PROCESSING", claim.token)


async def test_event_that_was_completed_during_a_slow_commit_is_not_handled_again(shop: Shop) -> None:
    with_timing(shop.outbox, claim_without_read=0.0)
    (event,) = orders(1)

    async def complete(request: Recorded) -> None:
        if request.operation == READ and shop.proxy.count(READ) == 1:
            await shop.client.update_item(
                TableName=shop.outbox.table_name,
                Key={"id": {"S": event.id}},
                UpdateExpression="SET #status = :status",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":status": {"S": "COMPLETED"}},
            )

    shop.proxy.rule = complete
    assert await transact(shop, event) == []
    assert await shop.line(KEY) == []


FULL = {"id": {"S": queue_id(KEY)}, "ids": {"L": [{"S": f"e{n}"} for n in range(10)]}, "claimToken": {"S": NOBODY}}


async def test_attempt_that_is_carried_out_late_is_found_and_claimed(shop: Shop) -> None:
    shop.proxy.rule = carried_out_late(shop.client, FULL, puts=1)
    (event,) = orders(1)
    (claim,) = await transact(shop, event)
    # Loaded, since an attempt was in doubt.
    assert shop.proxy.operations().count(READ) == 2
    assert claim.event == event
    assert await queue_of(shop) == ("PROCESSING", claim.token)
    assert await shop.line(KEY) == [event.id]


async def test_attempt_of_an_own_id_that_is_carried_out_late_releases_its_queue(shop: Shop) -> None:
    """Another emit may have stored the id, so only the caller can know whether it was this transaction."""
    shop.proxy.rule = carried_out_late(shop.client, FULL, puts=1)
    with pytest.raises(DuplicateEventError) as caught:
        await transact(shop, Event("order.paid", id="order-17-paid", ordering_key=KEY))
    assert caught.value.maybe_applied
    await released(shop)
    assert (await queue_of(shop))[0] == "PENDING"
    assert await shop.line(KEY) == ["order-17-paid"]


# The worker


async def test_worker_handles_the_events_of_transactions_without_a_poll(shop: Shop) -> None:
    recorder = Recorder()
    shop.bus.on("order.paid", recorder)
    async with shop.bus:
        for event in (events := orders(4)):
            async with shop.bus.transaction() as tx:
                tx.emit(event)
            await shop.bus.drain(timeout=60)
    assert [event.id for event in recorder.events] == ids_of(events)
    # The claim of a poll would be an update of the queue. What takes the last event from it is a deletion.
    updated = [request.body["Key"]["id"]["S"] for request in shop.proxy.requests if request.operation == "UpdateItem"]
    assert queue_id(KEY) not in updated
    assert set(ids_of(events)) <= set(updated)


async def test_worker_polls_when_a_queue_was_released_in_the_background(shop: Shop) -> None:
    shop.bus.on("order.paid", recorder := Recorder())

    async def act(request: Recorded) -> Any:
        if request.operation == READ and queue_id(KEY) in str(request.body):
            return refused("AccessDeniedException")
        if request.operation == "UpdateItem" and ":due" in str(request.body) and queue_id(KEY) in str(request.body):
            # Meanwhile, the worker polls, and finds the queue claimed.
            await anyio.sleep(0.5)
        return None

    async with shop.bus:
        await anyio.sleep(0.2)
        shop.proxy.requests.clear()
        shop.proxy.rule = act
        async with shop.bus.transaction() as tx:
            tx.emit("order.paid", ordering_key=KEY)
        with anyio.move_on_after(30):
            while not recorder.events:
                await anyio.sleep(0.01)
        assert len(recorder.events) == 1


async def test_handler_that_is_cancelled_during_the_read_has_committed(shop: Shop) -> None:
    go_on, errors = anyio.Event(), list[BaseException]()
    shop.bus.add_observer(lambda seen: errors.append(seen.error) if isinstance(seen, HandlerFailed) else None)

    async def hold(request: Recorded) -> None:
        if request.operation == READ and queue_id("child") in str(request.body):
            await go_on.wait()

    @shop.bus.on("order.paid", timeout=0.5)
    async def pay(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction() as tx:
            tx.emit("order.sent", ordering_key="child")

    shop.bus.on("order.sent", sent := Recorder())
    set_timing(shop.bus, commit_seconds=0.1)
    shop.proxy.rule = hold
    async with shop.bus:
        event = await shop.bus.emit("order.paid")
        with anyio.fail_after(60):
            while await shop.status(event) != "COMPLETED":
                await anyio.sleep(0.01)
            await anyio.sleep(1)
        go_on.set()
        await shop.bus.drain(timeout=60)
    assert errors == []
    assert len(sent.events) == 1


async def test_cancelled_caller_of_a_commit_leaves_the_event_to_the_worker(shop: Shop) -> None:
    sent, gate, recorder = anyio.Event(), anyio.Event(), Recorder()

    async def hold(request: Recorded) -> None:
        if request.operation == TRANSACTION:
            sent.set()
            await gate.wait()

    shop.bus.on("order.paid", recorder)
    (event,) = orders(1)

    async def commit() -> None:
        async with shop.bus.transaction() as tx:
            tx.emit(event)

    async with shop.bus:
        shop.proxy.rule = hold
        task = asyncio.create_task(commit())
        await sent.wait()
        task.cancel()
        await asyncio.wait([task])
        gate.set()
        with anyio.fail_after(60):
            while not recorder.events:
                await anyio.sleep(0.01)
        await shop.bus.drain(timeout=60)
    assert [each.id for each in recorder.events] == [event.id]


async def test_handler_emits_to_another_key_and_this_worker_handles_it(shop: Shop) -> None:
    handled: list[str | None] = []

    @shop.bus.on("order.paid")
    async def pay(event: Event, delivery: Delivery) -> None:
        handled.append(event.ordering_key)
        if event.ordering_key == KEY:
            async with delivery.transaction() as tx:
                for key in (KEY + "/shipping", "order-18"):
                    tx.emit("order.paid", ordering_key=key)

    async with shop.bus:
        await shop.bus.emit("order.paid", ordering_key=KEY)
        await shop.bus.drain(timeout=60)
    assert sorted(map(str, handled)) == [KEY, KEY + "/shipping", "order-18"]


# The cost


@pytest.mark.parametrize(("key", "units"), [(KEY, (8, 1)), (None, (5, 0))])
@pytest.mark.parametrize("projection", ["ALL", "KEYS_ONLY"])
async def test_event_of_a_transaction_that_is_claimed_on_emit_costs_eight_units_and_one_read(
    local_client: Any, table_name: str, projection: Projection, key: str | None, units: tuple[int, int]
) -> None:
    metering: Any = MeteringClient(local_client, projection)
    outbox = DynamoDBOutbox(metering, table_name=table_name, conditional_writes="single", window=False)
    await outbox.create_table(projection=projection)
    metering.start_over()
    event = Event("order.paid", {"n": 1}, ordering_key=key)
    emit_claim, claims = Shop.claiming(event)
    await outbox.transact([], [(event, None)], emit_claim=emit_claim)
    (claim,) = claims
    assert await outbox.settle([(claim, Completed())]) == [None]
    assert (sum(metering.written.values()), metering.read, metering.refused) == (*units, 0)
