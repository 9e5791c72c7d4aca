"""Emits that share writes, and events that are stored claimed: which requests are sent, and what each caller gets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    OutboxEventBus,
    ThrottledError,
    UnstorableValueError,
)
from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID
from dynamodb_outbox.dynamodb.operating.holds_item import HOLDS_ID
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, nth, refused
from tests.adapter_timing import with_timing
from tests.dynamodb.impatience import giving_up_after

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus
HOLDS_ARE_FRESH_FOR = 5.0
"""Seconds, as docs/how-to/repairing.md promises."""


@pytest.fixture
def client(each_client: Any) -> Any:
    return each_client


@pytest.fixture
async def outbox(client: Any, proxy: Proxy, table_name: str) -> DynamoDBOutbox:
    """An outbox without a window, so that twenty emits make no other requests than one."""
    made = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch", poll_interval=30, window=False)
    await made.create_table()
    proxy.requests.clear()
    return made


@pytest.fixture
def bus(outbox: DynamoDBOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


# Group commit


async def test_lone_emit_is_one_put(bus: OutboxEventBus, proxy: Proxy) -> None:
    for _ in range(3):
        await bus.emit("order.placed")
    assert proxy.operations() == ["PutItem"] * 3


async def test_concurrent_emits_share_requests(bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    # However slow the machine is, the emits wait for the first one.
    with_timing(outbox, emit_group=60.0)
    events = await asyncio.gather(*(bus.emit("order.placed", {"n": n}) for n in range(100)))
    assert [event.payload["n"] for event in events] == list(range(100))
    assert await outbox.count(PENDING) == 100
    # The first alone, the other 99 in four: three full ones at once, the rest when one of them returns.
    assert Counter(proxy.operations()) == {"PutItem": 1, "BatchWriteItem": 4, "Query": 1}
    assert sorted(len(next(iter(body["RequestItems"].values()))) for body in proxy.of("BatchWriteItem")) == [
        24,
        25,
        25,
        25,
    ]


async def test_ids_of_the_caller_are_put_with_a_condition(bus: OutboxEventBus, proxy: Proxy) -> None:
    await asyncio.gather(*(bus.emit("order.placed", id=f"{n}") for n in range(10)))
    assert set(proxy.operations()) == {"PutItem"}
    conditions = {body["ConditionExpression"] for body in proxy.of("PutItem")}
    assert conditions == {"attribute_not_exists(id) OR #status = :void"}
    results = await asyncio.gather(
        *(bus.emit("order.placed", id="3" if n % 2 else None) for n in range(20)), return_exceptions=True
    )
    assert [isinstance(result, DuplicateEventError) for result in results] == [bool(n % 2) for n in range(20)]


async def test_bad_event_is_refused_alone(bus: OutboxEventBus, outbox: DynamoDBOutbox) -> None:
    payloads = [{"n": float("nan") if n == 7 else n} for n in range(20)]
    results = await asyncio.gather(*(bus.emit("order.placed", payload) for payload in payloads), return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, UnstorableValueError)] == [7]
    assert await outbox.count(PENDING) == 19


@pytest.mark.parametrize("cut", [CUT_BEFORE, CUT_AFTER])
async def test_shared_write_whose_response_is_lost_stores_each_event_once(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy, cut: str
) -> None:
    with_timing(outbox, emit_group=60.0)
    proxy.rule = nth(1, "BatchWriteItem", cut)
    events = await asyncio.gather(*(bus.emit("order.placed") for _ in range(20)))
    assert {claim.event.id for claim in await outbox.claim(30)} == {event.id for event in events}
    # After the ambiguous batch each goes again with a condition.
    assert (proxy.count("BatchWriteItem"), proxy.count("PutItem")) == (1, 20)


async def test_failure_of_a_shared_write_reaches_each_caller(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy, client: Any
) -> None:
    def throttle(request: Recorded) -> Any:
        if request.operation == "BatchWriteItem":
            return refused("ProvisionedThroughputExceededException", "slow down")
        return None

    proxy.rule = throttle
    with giving_up_after(3):
        results = await asyncio.gather(*(bus.emit("order.placed") for _ in range(11)), return_exceptions=True)
    # A client that retries by itself is kept from repeating the batch, and its events go again with a condition.
    retries_by_itself = client.meta.config.retries["mode"] == "legacy"
    stored = sum(type(result) is Event for result in results)
    assert stored == 11 if retries_by_itself else 1 <= stored < 11
    assert sum(type(result) is ThrottledError for result in results) == 11 - stored
    proxy.rule = lambda request: None
    await asyncio.gather(*(bus.emit("order.placed") for _ in range(11)))
    assert await outbox.count(PENDING) == 11 + stored


async def test_cancelled_caller_takes_nothing_from_the_others(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy
) -> None:
    emits = [asyncio.create_task(bus.emit("order.placed")) for _ in range(20)]
    await anyio.sleep(0)
    for emit in emits[::4]:
        emit.cancel()
    results = await asyncio.gather(*emits, return_exceptions=True)
    stored = [result.id for result in results if isinstance(result, Event)]
    assert len(stored) == 15
    with anyio.fail_after(60):
        claimed: set[str] = set()
        while not claimed >= set(stored):
            claimed |= {claim.event.id for claim in await outbox.claim(30)}


async def test_switch_turns_it_off(client: Any, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    apart = DynamoDBOutbox(client, table_name=outbox.table_name, group_emits=False)
    await asyncio.gather(*(OutboxEventBus(apart).emit("order.placed") for _ in range(10)))
    assert proxy.operations() == ["PutItem"] * 10
    with pytest.raises(ConfigurationError, match="group_emits=1: it must be True or False"):
        DynamoDBOutbox(client, table_name=outbox.table_name, group_emits=1)  # type: ignore[arg-type]  # what is refused


# Claimed on emit


class Handled:
    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.ids.append(event.id)


async def until_idle(proxy: Proxy) -> None:
    """Wait until a worker that was just started has made its first requests: the next come after a poll interval."""
    with anyio.fail_after(60):
        # On a machine that pauses, one of them may be repeated.
        while proxy.count("Query") < 3 or proxy.count("UpdateItem") < 1:
            await anyio.sleep(0.002)


async def drained(bus: OutboxEventBus, handled: Handled, count: int) -> None:
    with anyio.fail_after(60):
        while len(handled.ids) < count:
            await anyio.sleep(0.002)
        await bus.stop()


@pytest.mark.parametrize("how", ["emit", "together", "many", "transaction"])
async def test_two_writes_from_emit_to_completion(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy, client: Any, how: str
) -> None:
    # However slow the machine is, no read of the holds is repeated before its answer comes.
    with_timing(outbox, holds=60.0)
    bus.on("order.placed", handled := Handled())
    await bus.start()
    await until_idle(proxy)
    proxy.requests.clear()
    started = time.monotonic()
    if how == "emit":
        await bus.emit("order.placed", {"n": 1})
    elif how == "together":
        await asyncio.gather(*(bus.emit("order.placed") for _ in range(20)))
    elif how == "many":
        await bus.emit_many([Event("order.placed") for _ in range(20)])
    else:
        async with bus.transaction() as tx:
            tx.emit("order.placed")
    count = 20 if how in ("together", "many") else 1
    await drained(bus, handled, count)
    sent = Counter(proxy.operations())
    # The stop withdraws the worker's announcement.
    assert {body["Key"]["id"]["S"] for body in proxy.of("UpdateItem")} == {WORKERS_ID}
    # No event of a held type is started: the worker reads the holds before the first event, not for each event.
    holds = sent.pop("BatchGetItem")
    assert 1 <= holds <= 1 + (time.monotonic() - started) // HOLDS_ARE_FRESH_FOR
    keys = [body["RequestItems"][outbox.table_name]["Keys"] for body in proxy.of("BatchGetItem")]
    assert keys == [[{"id": {"S": HOLDS_ID}}]] * holds
    assert not any(body["RequestItems"][outbox.table_name].get("ConsistentRead") for body in proxy.of("BatchGetItem"))
    assert sent.keys() <= {"PutItem", "BatchWriteItem", "TransactWriteItems", "BatchExecuteStatement", "UpdateItem"}, (
        sent
    )
    # What is executed are the completions only: nothing was claimed.
    statements = [text["Statement"] for body in proxy.of("BatchExecuteStatement") for text in body["Statements"]]
    assert len(statements) == count
    assert all("completedOn" in text for text in statements)
    for event_id in handled.ids:
        item = (await client.get_item(TableName=outbox.table_name, Key={"id": {"S": event_id}}))["Item"]
        assert (item["status"], item["retryCount"], "gsiSortKey" in item) == ({"S": "COMPLETED"}, {"N": "0"}, False)


@pytest.mark.parametrize("own_id", [None, "mine"])
async def test_event_claimed_on_emit_whose_response_is_lost_is_handled_once(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy, own_id: str | None
) -> None:
    bus.on("order.placed", handled := Handled())
    await bus.start()
    proxy.rule = nth(1, "PutItem", CUT_AFTER)
    event = await bus.emit("order.placed", id=own_id)
    await drained(bus, handled, 1)
    assert handled.ids == [event.id]
    assert proxy.count("PutItem") == 2


async def test_second_event_of_an_id_is_refused_and_not_handled(
    bus: OutboxEventBus, outbox: DynamoDBOutbox, proxy: Proxy
) -> None:
    bus.on("order.placed", handled := Handled())
    emit = partial(bus.emit, "order.placed", id="mine", occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    async with bus:
        await emit()
        with pytest.raises(DuplicateEventError):
            await emit()
        # Also where a reply was lost: the stored event is alike, but not of this emit.
        proxy.rule = nth(1, "PutItem", CUT_AFTER)
        with pytest.raises(DuplicateEventError):
            await emit()
        await anyio.sleep(0.1)
    assert handled.ids == ["mine"]


async def test_event_claimed_on_emit_by_a_process_that_dies_is_recovered(client: Any, outbox: DynamoDBOutbox) -> None:
    now = 1_790_000_000.0
    dying = DynamoDBOutbox(client, table_name=outbox.table_name, clock=lambda: now)
    bus = OutboxEventBus(dying)
    started = anyio.Event()

    @bus.on("order.placed")
    async def never(event: Event) -> None:
        started.set()
        await anyio.sleep(60)

    await bus.start()
    await bus.emit("order.placed", id="e")
    await started.wait()
    later = DynamoDBOutbox(client, table_name=outbox.table_name, clock=lambda: now + 31)
    assert (await later.recover()).reset == ("e",)
    (claim,) = await later.claim(10)
    assert (claim.event.id, claim.attempt) == ("e", 2)
    await bus.stop(timeout=0)
