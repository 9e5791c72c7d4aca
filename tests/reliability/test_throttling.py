"""Throttling, of requests, of statements and of items: calls are bounded, and what was refused alone is repeated."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    Delivery,
    Event,
    HandlerTimeoutError,
    OutboxEventBus,
    PartialPublishError,
    PollingError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.adapter import Completed, Retry
from reliability.proxy import CUT_BEFORE, Proxy, Recorded, Reply, nth, refused
from reliability.rules import partly_refused
from tests.conftest import MakeOutbox
from tests.dynamodb.impatience import giving_up_after
from tests.fakes import BLAMED
from tests.reliability.conftest import Items
from tests.reliability.proxy_rules import Runs, eventually, every, first_of_each, kind_of

THROTTLED = refused("ThrottlingException", "Rate of requests exceeds the allowed throughput.")
EXCEEDED = refused("ProvisionedThroughputExceededException", "The level of configured throughput was exceeded.")


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"])
@pytest.mark.parametrize("kind", ["claim", "complete"])
async def test_statements_refused_inside_of_a_200_are_repeated_and_only_those(
    make_outbox: MakeOutbox, local_client: Any, proxy: Proxy, items: Items, *, kind: str, code: str
) -> None:
    outbox = make_outbox(batch_size=6)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(6)])
    answers = iter([{1, 4}, {1}])

    def rule(request: Recorded) -> Any:
        throttled = next(answers, None) if kind_of(request) == kind else None
        return None if throttled is None else partly_refused(local_client, request, code, throttled & {0, 1, 4})

    proxy.rule = rule
    assert await bus.run_once() == 6
    assert runs.counts == {f"e{n}": 1 for n in range(6)}
    sizes = [len(request.body["Statements"]) for request in proxy.requests if kind_of(request) == kind]
    assert sizes == [6, 2, 1]
    assert {(item["status"]["S"], item["retryCount"]["N"]) for item in (await items()).values()} == {("COMPLETED", "0")}


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_conflict_with_a_transaction_of_the_user_counts_no_attempt(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, mode: str
) -> None:
    attempts: list[int] = []
    outbox = make_outbox(conditional_writes=mode)
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def handler(event: Event, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        async with delivery.transaction() as tx:
            tx.emit("child")

    await outbox.publish([Event("order.placed", id="e")])
    conflict = refused("TransactionConflictException", "Transaction is ongoing for the item")
    reasons = [{"Code": "None"}, {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}]
    cancelled = refused("TransactionCanceledException")
    cancelled.body["CancellationReasons"] = reasons
    rules = [
        first_of_each("claim", conflict),
        nth(1, "TransactWriteItems", cancelled),
    ]
    proxy.rule = lambda request: next((action for rule in rules if (action := rule(request))), None)
    assert await bus.run_once() == 1
    stored = await items()
    assert attempts == [1]
    assert (stored["e"]["status"], stored["e"]["retryCount"]) == ({"S": "COMPLETED"}, {"N": "0"})
    assert len(stored) == 2
    assert proxy.count("TransactWriteItems") == 2
    assert sum(kind_of(request) == "claim" for request in proxy.requests) == 2


async def test_items_that_come_back_unprocessed_are_named_in_the_end(
    make_outbox: MakeOutbox, local_client: Any, proxy: Proxy, items: Items
) -> None:
    outbox = make_outbox()
    calls = itertools.count()

    async def some_then_none(request: Recorded) -> Reply:
        ((name, puts),) = request.body["RequestItems"].items()
        stored = puts[:10] if next(calls) == 0 else []
        if stored:
            await local_client.batch_write_item(RequestItems={name: stored})
        return Reply(200, {"UnprocessedItems": {name: puts[len(stored) :]}})

    proxy.rule = lambda request: some_then_none(request) if request.operation == "BatchWriteItem" else None
    events = [Event("order.placed", {"n": n}) for n in range(25)]
    with giving_up_after(5), pytest.raises(PartialPublishError) as caught:
        await outbox.publish(events)
    error = caught.value
    sizes = [len(body["RequestItems"][outbox.table_name]) for body in proxy.of("BatchWriteItem")]
    assert sizes == [25, 15, 15, 15, 15]
    assert [event.id for event in error.published] == [event.id for event in events[:10]]
    assert [event.id for event in error.failed] == [event.id for event in events[10:]]
    assert {type(cause) for cause in error.causes.values()} == {ThrottledError}
    assert (await items()).keys() == {event.id for event in error.published}
    proxy.rule = lambda request: None
    await outbox.publish(error.failed)
    assert (await items()).keys() == {event.id for event in events}


async def test_storm_of_throttling_costs_few_calls_and_delivery_recovers(make_outbox: MakeOutbox, proxy: Proxy) -> None:
    errors: list[Any] = []
    outbox = make_outbox(processing_timeout=1.5, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    held = make_outbox()
    await held.publish([Event("order.placed", id=f"e{n}") for n in range(20)])
    proxy.rule = lambda request: EXCEEDED
    async with bus:
        with giving_up_after(3), pytest.raises(ThrottledError):
            await bus.emit("order.placed", id="during")
        await eventually(lambda: sum(error.loop == "polling" for error in errors) >= 3)
        during = len(proxy.requests)
        told = list(errors)
        proxy.rule = lambda request: None
        await eventually(lambda: len(runs.ids) == 20)
        await bus.drain(20)
    assert runs.counts == {f"e{n}": 1 for n in range(20)}
    assert {type(error) for error in told} == {PollingError}
    # A machine that pauses may let an attempt run out of its time.
    assert ThrottledError in {type(error.__cause__) for error in told} <= {ThrottledError, UnavailableError}
    waits = [error.retry_in for error in told if error.loop == "polling"]
    assert waits == [0.05 * 2**n for n in range(1, len(waits) + 1)]
    # Each look has half a second here, and backs off inside of it.
    assert during < 40 * (len(told) + 1)


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_settles_do_not_queue_behind_claims_that_are_throttled(
    make_outbox: MakeOutbox, proxy: Proxy, mode: str
) -> None:
    outbox = make_outbox(conditional_writes=mode, batch_size=1000)
    await outbox.publish([Event("order.placed") for _ in range(5)])
    held = await outbox.claim(5)
    await outbox.publish([Event("order.placed") for _ in range(250)])
    proxy.rule = every("claim", EXCEEDED)
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.claim, 250)
        # So many claims are under way as the adapter makes at once, and each is tried for seconds.
        await eventually(lambda: sum(kind_of(request) == "claim" for request in proxy.requests) > 8 + 1)
        with anyio.move_on_after(6) as waiting:
            assert await outbox.settle([(claim, Completed()) for claim in held]) == [None] * 5
        group.cancel_scope.cancel()
    assert not waiting.cancelled_caught


async def test_no_more_is_claimed_than_fits_while_settles_are_throttled(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items
) -> None:
    outbox = make_outbox(batch_size=5, concurrency=10, processing_timeout=10)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    await outbox.publish([Event("order.placed", id=f"e{n:02}") for n in range(40)])
    proxy.rule = every("complete", EXCEEDED)
    async with bus:
        await eventually(lambda: sum(kind_of(request) == "complete" for request in proxy.requests) >= 10)
        assert len(runs.ids) == 10
        proxy.rule = lambda request: None
        await eventually(lambda: len(runs.ids) == 40)
        await bus.drain(20)
    assert set(runs.counts.values()) == {1}
    assert {item["status"]["S"] for item in (await items()).values()} == {"COMPLETED"}


class Pauses:
    """Measures how long the event loop was held up, by a machine that is busy elsewhere."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        before = anyio.current_time()
        while True:
            await anyio.sleep(0.01)
            now = anyio.current_time()
            self.longest, before = max(self.longest, now - before - 0.01), now


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["batch", "single"])
@pytest.mark.parametrize("action", [EXCEEDED, CUT_BEFORE], ids=["throttled", "lost"])
async def test_handler_whose_renewals_do_not_get_through_is_cancelled_before_its_lease_ends(
    make_outbox: MakeOutbox, proxy: Proxy, items: Items, *, mode: str, action: Any
) -> None:
    lease = 9.0  # a part of it limits each request, and a busy machine may need a second for one
    errors: list[Any] = []
    outbox = make_outbox(conditional_writes=mode, processing_timeout=lease, on_error=errors.append)
    bus = OutboxEventBus(outbox)
    times: list[float] = []

    @bus.on("order.placed", timeout=30, backoff=lambda attempt, error: 60.0)
    async def long(event: Event) -> None:
        times.append(anyio.current_time())
        try:
            await anyio.sleep(30)
        finally:
            times.append(anyio.current_time())

    await outbox.publish([Event("order.placed", id="e")])
    proxy.rule = every("renew", action)
    pauses = Pauses()
    async with anyio.create_task_group() as group:
        group.start_soon(pauses.watch)
        assert await bus.run_once() == 1
        group.cancel_scope.cancel()
    started, cancelled = times
    assert cancelled - pauses.longest < started + lease
    assert isinstance(errors[-1], HandlerTimeoutError)
    assert {type(error) for error in errors[:-1]} == {PollingError}
    item = (await items())["e"]
    assert (item["status"], item["retryCount"]) == ({"S": "PENDING"}, {"N": "1"})
    assert sum(kind_of(request) == "renew" for request in proxy.requests) < 40


async def test_settle_is_repeated_while_its_lease_holds_and_not_for_ever(make_outbox: MakeOutbox, proxy: Proxy) -> None:
    outbox = make_outbox(processing_timeout=3)
    await outbox.publish([Event("order.placed", id="e")])
    (claim,) = await outbox.claim(1)
    proxy.rule = every("retry", THROTTLED)
    with anyio.fail_after(20):
        (error,) = await outbox.settle([(claim, Retry(delay=1, error="x", **BLAMED))])
    assert isinstance(error, (ThrottledError, UnavailableError))
    assert 1 < sum(kind_of(request) == "retry" for request in proxy.requests) < 40
