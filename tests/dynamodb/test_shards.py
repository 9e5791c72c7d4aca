"""A divided index: every event has its place in it, is found there, and gets there while the table is in use."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ConfigurationError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    IndexNotFoundError,
    OutboxEventBus,
    TableMismatchError,
)
from dynamodb_outbox.adapter import Claim, Completed, Failed, Held, Released, Retry
from reliability.proxy import Proxy, Recorded, refused
from tests.backends import until_indexes_are_made
from tests.dynamodb.queues import Line
from tests.fakes import BLAMED, Clock

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus
FORMER = "status-gsiSortKey-index"


async def items_of(client: Any, table_name: str) -> list[dict[str, Any]]:
    items = (await client.scan(TableName=table_name, ConsistentRead=True))["Items"]
    return [item for item in items if "status" in item]


async def assert_in_their_shards(client: Any, table_name: str) -> None:
    """Every event that is not over is in the index under the status it has."""
    for item in await items_of(client, table_name):
        if item["status"]["S"] == COMPLETED:
            assert "gsiSortKey" not in item
        else:
            status, _, shard = item["statusShard"]["S"].partition("#")
            assert status == item["status"]["S"]
            assert 0 <= int(shard) < 4


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_every_transition_moves_the_event_to_its_shard(client: Any, table_name: str, mode: Any) -> None:
    clock = Clock()
    outbox = DynamoDBOutbox(
        client, table_name=table_name, shards=4, conditional_writes=mode, clock=clock, max_retries=1, base_backoff=0
    )
    await outbox.create_table()
    await outbox.verify_table()
    await outbox.publish([Event("order.placed") for _ in range(30)])
    await outbox.publish([Event("order.placed")])
    await outbox.transact([], [(Event("order.placed"), None)])
    await assert_in_their_shards(client, table_name)
    claims = await outbox.claim(40)
    assert len(claims) == 32
    await assert_in_their_shards(client, table_name)
    clock.now += 1
    outcomes = [Completed(), Retry(delay=5, error="x", **BLAMED), Failed(error="x", **BLAMED), Released()]
    assert await outbox.settle([(claim, outcomes[n % 4]) for n, claim in enumerate(claims[:24])]) == [None] * 24
    await assert_in_their_shards(client, table_name)
    assert [await outbox.count(status) for status in (PENDING, PROCESSING, FAILED)] == [12, 8, 6]
    clock.now += 31
    assert len((await outbox.recover()).reset) == 8
    await assert_in_their_shards(client, table_name)
    assert len(await outbox.claim(40)) == 20
    clock.now += 31
    recovered = await outbox.recover()
    # What was released has a retry left.
    assert (len(recovered.reset), len(recovered.failed)) == (6, 14)
    failed = await outbox.failed_events(limit=100)
    assert len(failed) == 20
    assert len((await outbox.redrive([event.id for event in failed])).done) == 20
    await assert_in_their_shards(client, table_name)
    assert len(await outbox.claim(40)) == 26


async def test_delivery_transaction_and_claim_on_emit_keep_the_event_in_its_shard(client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=4, poll_interval=0.05)
    await outbox.create_table()
    bus = OutboxEventBus(outbox)
    seen: list[str] = []

    @bus.on("order.placed")
    async def handle(event: Event, delivery: Any) -> None:
        await assert_in_their_shards(client, table_name)
        async with delivery.transaction():
            pass
        seen.append(event.id)

    async with bus:
        born = await bus.emit("order.placed")
        delayed = await bus.emit("order.placed", delay=0.1)
        await bus.drain(timeout=30)
    assert set(seen) == {born.id, delayed.id}
    assert {item["status"]["S"] for item in await items_of(client, table_name)} == {"COMPLETED"}
    await assert_in_their_shards(client, table_name)


async def test_dead_letters_of_all_shards_come_latest_first(client: Any, table_name: str) -> None:
    clock = Clock()
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=4, clock=clock)
    await outbox.create_table()
    await outbox.publish([Event("order.placed", {"n": n}) for n in range(130)])
    claims = sorted(await outbox.claim(200), key=lambda claim: claim.event.payload["n"])
    for first in range(0, 130, 10):
        clock.now += 0.01
        await outbox.settle([(claim, Failed(error="x", **BLAMED)) for claim in claims[first : first + 10]])
    tens = [event.payload["n"] // 10 for event in await outbox.failed_events(limit=200)]
    assert tens == sorted(tens, reverse=True)
    assert len(tens) == 130
    assert [event.payload["n"] // 10 for event in await outbox.failed_events(limit=15)] == [12] * 10 + [11] * 5


def shard_of(query: Recorded) -> str:
    """The shard that a query of the index asks for."""
    values = [value.get("S", "") for value in query.body["ExpressionAttributeValues"].values()]
    (shard,) = [value for value in values if "#" in value]
    return shard


async def test_busy_worker_asks_one_shard_after_the_other(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=4, conditional_writes="batch", concurrency=5)
    await outbox.create_table()
    await outbox.publish([Event("order.placed") for _ in range(200)])
    proxy.requests.clear()
    for _ in range(8):
        assert len(await outbox.claim(5)) == 5
    assert proxy.count("Query") == 8
    served = [shard_of(request) for request in proxy.requests if request.operation == "Query"]
    assert served == served[:4] * 2
    assert len(set(served)) == 4


async def test_shard_at_its_limit_does_not_hold_up_the_others(client: Any, proxy: Proxy, table_name: str) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=4, conditional_writes="batch", concurrency=10)
    await outbox.create_table()
    await outbox.publish([Event("order.placed") for _ in range(160)])
    throttled = {"S": "PROCESSING#2"}

    def hot(request: Any) -> Any:
        if any(throttled in each["Parameters"] for each in request.body.get("Statements", ())):
            return refused("ThrottlingException", "throughput exceeds the limit of a partition")
        return None

    proxy.rule = hot
    proxy.requests.clear()
    claims = [claim for _ in range(6) for claim in await outbox.claim(10)]
    assert len(claims) == 60
    asked = [body for body in proxy.of("BatchExecuteStatement") if hot(Recorded("BatchExecuteStatement", body))]
    # Once in a look, at most, and not again and again until it gives in.
    assert 1 <= len(asked) <= 6


async def test_idle_worker_polls_every_shard_and_finds_what_another_process_emits(
    client: Any, proxy: Proxy, local_client: Any, table_name: str
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, shards=8)
    await outbox.create_table()
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", nothing)
    elsewhere = DynamoDBOutbox(local_client, table_name=table_name, shards=8)
    for _ in range(5):
        assert await bus.run_once() == 0
    polled = Counter(query["ExpressionAttributeValues"][":status"]["S"] for query in proxy.of("Query"))
    shards = {f"{status}#{shard}": 5 for status in ("PENDING", "PROCESSING") for shard in range(8)}
    assert polled == shards | {"WINDOW#0": 1}  # and again after a third of a lease
    async with bus:
        await elsewhere.publish([Event("order.placed") for _ in range(20)])
        await bus.drain(timeout=30)


async def nothing(event: Event) -> None:
    """Do nothing."""


async def test_wrong_index_is_named(client: Any, table_name: str) -> None:
    await DynamoDBOutbox(client, table_name=table_name).create_table()
    sharded = DynamoDBOutbox(client, table_name=table_name, shards=4)
    with pytest.raises(TableMismatchError) as caught:
        await sharded.verify_table()
    assert caught.value.differences == [f"the index 'statusShard-gsiSortKey-index' is missing (it has {FORMER})"]
    with pytest.raises(IndexNotFoundError, match="no index 'statusShard-gsiSortKey-index'"):
        await sharded.claim(1)
    misnamed = DynamoDBOutbox(client, table_name=table_name, shards=4, status_index_name=FORMER)
    with pytest.raises(TableMismatchError, match=r"is HASH status \(S\) \+ .*, it should be HASH statusShard \(S\)"):
        await misnamed.verify_table()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 0}, "shards=0: it must be a whole number from 1 to 256"),
        ({"shards": 257}, "shards=257"),
        ({"shards": True}, "shards=True"),
        ({"former_index_name": FORMER}, "it must be the index that the table had before it got shards"),
        ({"shards": 2, "former_index_name": "x"}, "former_index_name='x': it must have 3 to 255 characters"),
        ({"shards": 2, "status_index_name": FORMER, "former_index_name": FORMER}, "not 'status-gsiSortKey-index'"),
    ],
)
async def test_options_out_of_range_are_refused(client: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DynamoDBOutbox(client, table_name="events", **options)
    assert message in str(caught.value)


async def test_move_needs_the_former_index(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="it needs former_index_name"):
        await DynamoDBOutbox(client, table_name="events", shards=4).move_to_shards()


# Moving a table


async def add_index(client: Any, table_name: str) -> None:
    await client.update_table(
        TableName=table_name,
        AttributeDefinitions=[
            {"AttributeName": "statusShard", "AttributeType": "S"},
            {"AttributeName": "gsiSortKey", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "statusShard-gsiSortKey-index",
                    "KeySchema": [
                        {"AttributeName": "statusShard", "KeyType": "HASH"},
                        {"AttributeName": "gsiSortKey", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            }
        ],
    )
    await until_indexes_are_made(client, table_name)


@pytest.mark.thorough
async def test_table_is_moved_to_shards_while_it_is_in_use(client: Any, table_name: str) -> None:
    """Emitters and workers of the old and of the new kind at once, then the move, then the new kind alone."""
    handled: Counter[str] = Counter()
    emitted: set[str] = set()

    async def count(event: Event) -> None:
        handled[event.id] += 1
        if event.payload.get("fails") and handled[event.id] == 1:
            raise RuntimeError("once")

    def outbox_of(**options: Any) -> DynamoDBOutbox:
        return DynamoDBOutbox(client, table_name=table_name, poll_interval=0.05, base_backoff=0.1, **options)

    def service(outbox: DynamoDBOutbox) -> OutboxEventBus:
        bus = OutboxEventBus(outbox, on_error=lambda _: None)
        bus.on("order.placed", count)
        return bus

    async def emit(bus: OutboxEventBus, **payload: Any) -> None:
        for n in range(10):
            event = await bus.emit("order.placed", {**payload, "fails": n % 3 == 0}, delay=0.0 if n % 2 else 0.2)
            emitted.add(event.id)

    old_outbox, moving_outbox = outbox_of(), outbox_of(shards=4, former_index_name=FORMER)
    old = service(old_outbox)
    await old_outbox.create_table()
    waiting = [Event("order.placed", {"when": "next year"}) for _ in range(30)]
    await old_outbox.publish(waiting, due_at=4_000_000_000)
    async with old:
        await emit(old)
        await add_index(client, table_name)
        # A deployment that rolls: both kinds run.
        async with service(moving_outbox) as both:
            await emit(old)
            await emit(both)
            await old.stop(5)
            await emit(both)
            while sum(event_id in handled for event_id in emitted) < 40:
                await anyio.sleep(0.05)
            progress: list[int] = []
            moved = await moving_outbox.move_to_shards(on_progress=progress.append)
            assert moved >= 30
            assert progress[-1] == moved
            assert await moving_outbox.move_to_shards() == 0
    async with service(outbox_of(shards=4)) as new:
        await emit(new)
        while sum(item["status"]["S"] != COMPLETED for item in await items_of(client, table_name)) > len(waiting):
            await anyio.sleep(0.05)
    await assert_in_their_shards(client, table_name)
    clock = Clock()
    clock.now = 4_000_000_001
    late = DynamoDBOutbox(client, table_name=table_name, shards=4, clock=clock)
    assert {claim.event.id for claim in await late.claim(100)} == {event.id for event in waiting}
    assert set(handled) == emitted


@pytest.mark.thorough
async def test_events_of_an_old_worker_are_recovered_during_the_migration(client: Any, table_name: str) -> None:
    clock = Clock()
    old = DynamoDBOutbox(client, table_name=table_name, clock=clock)
    await old.create_table()
    await add_index(client, table_name)
    both = DynamoDBOutbox(client, table_name=table_name, shards=4, former_index_name=FORMER, clock=clock)
    await both.verify_table()
    await both.publish([Event("order.placed") for _ in range(10)])
    # The old worker knows nothing of shards: of what it claimed, the new index still says that it waits.
    assert len(await old.claim(10)) == 10
    assert [await both.count(status) for status in (PENDING, PROCESSING)] == [0, 10]
    clock.now += 31
    assert len((await both.recover()).reset) == 10
    claims = await both.claim(20)
    assert len(claims) == 10
    assert await both.settle([(claim, Released()) for claim in claims]) == [None] * 10
    await assert_in_their_shards(client, table_name)


@pytest.mark.thorough
async def test_queues_of_ordering_keys_are_moved_to_their_shards(client: Any, table_name: str) -> None:
    clock = Clock()
    old = DynamoDBOutbox(client, table_name=table_name, clock=clock)
    await old.create_table()
    ids = [f"e{number}" for number in range(24)]
    lines = [Line(client, old, key=f"order-{number}") for number in range(4)]
    for number, line in enumerate(lines):
        await line.emit(*(f"{number}-{each}" for each in ids))
    due, held, blocked, _ = lines
    outcomes = {held.key: Held(due_at=clock.now), blocked.key: Failed(error="x"), due.key: Released()}
    for claim in await old.claim(4):
        if (outcome := outcomes.get(claim.event.ordering_key or "")) is not None:
            assert await old.settle([(claim, outcome)]) == [None]
    await add_index(client, table_name)
    both = DynamoDBOutbox(client, table_name=table_name, shards=4, former_index_name=FORMER, clock=clock)
    assert await both.move_to_shards() == 4
    assert await both.move_to_shards() == 0
    queues = [await line.item() for line in lines]
    assert [item["status"]["S"] for item in queues] == ["PENDING", "HELD", "FAILED", "PROCESSING"]
    assert all(item["statusShard"]["S"].startswith(item["status"]["S"]) for item in queues)
    # Events that wait, and pages, are in no index.
    others = [item for item in await items_of(client, table_name) if item["status"] == {"S": "QUEUED"}]
    assert len(others) == 4 * len(ids)
    assert not any("statusShard" in item or "gsiSortKey" in item for item in others)
    new = DynamoDBOutbox(client, table_name=table_name, shards=4, clock=clock)
    clock.now += 31
    assert (await new.recover()).reset == ("3-e0",)
    assert await new.resume("order.paid") == 1
    await blocked.change(status={"S": "PENDING"}, statusShard=both._config.placement.key("PENDING", blocked.queue_id))
    handled: list[str] = []
    while claims := await DynamoDBOutbox(client, table_name=table_name, shards=4, clock=clock).claim(10):
        while claims:
            handled += [claim.event.id for claim in claims]
            settled = await new.settle([(claim, Completed()) for claim in claims], keep_keys=True)
            claims = [each for each in settled if isinstance(each, Claim)]
    for number in range(4):
        assert [each for each in handled if each.startswith(f"{number}-")] == [f"{number}-{each}" for each in ids]
    assert [await line.item() for line in lines] == [{}] * 4
