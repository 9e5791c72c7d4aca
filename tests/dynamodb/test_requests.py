"""Which requests are sent, how many, and with which conditions; and how `"auto"` chooses the mode."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus, OutboxEventBus, UnavailableError
from dynamodb_outbox.adapter import Completed, Released, Retry
from dynamodb_outbox.dynamodb.emitting import publish_result
from dynamodb_outbox.dynamodb.items.codec import DELIVERY_BYTES, MAX_ITEM_BYTES, encode_event
from dynamodb_outbox.dynamodb.items.values import encode
from dynamodb_outbox.observers import Observation
from reliability.proxy import CUT_BEFORE, Proxy, Reply, refused
from tests.adapter_timing import with_timing
from tests.dynamodb.conftest import PeersTime
from tests.dynamodb.impatience import giving_up_after
from tests.fakes import BLAMED

PENDING = EventStatus.PENDING


@pytest.fixture
def client(either_client: Any) -> Any:
    return either_client


def single(client: Any, table_name: str) -> DynamoDBOutbox:
    return DynamoDBOutbox(client, table_name=table_name, conditional_writes="single")


# Counts and conditions


async def test_one_event_is_one_put_and_a_hundred_are_four_batches(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    bus = OutboxEventBus(outbox)
    await bus.emit("order.placed", {"n": 0})
    await bus.emit_many([Event("order.placed", {"n": n}) for n in range(100)])
    assert sorted(proxy.operations()) == ["BatchWriteItem"] * 4 + ["PutItem"]
    assert proxy.of("PutItem")[0]["ConditionExpression"] == "attribute_not_exists(id) OR #status = :void"
    sizes = [len(body["RequestItems"][outbox.table_name]) for body in proxy.of("BatchWriteItem")]
    assert sizes == [25] * 4


async def test_large_events_are_also_bounded_by_bytes(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed", {"text": "x" * 200_000}) for _ in range(10)])
    sizes = [len(body["RequestItems"][outbox.table_name]) for body in proxy.of("BatchWriteItem")]
    assert sorted(sizes) == [2, 4, 4]
    assert max(sizes) * 200_000 <= publish_result.MAX_BATCH_BYTES


@pytest.mark.parametrize("mode", ["batch", "single"])
async def test_every_claim_and_settle_is_conditional(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, mode: str
) -> None:
    if mode == "single":
        outbox = single(client, outbox.table_name)
    await outbox.publish([Event("order.placed") for _ in range(8)])
    claims = await outbox.claim(8)
    outcomes = [Completed(), Retry(delay=1, error="x", **BLAMED), Released()]
    assert await outbox.settle([(claim, outcomes[n % 3]) for n, claim in enumerate(claims)]) == [None] * 8
    proxy.requests = [request for request in proxy.requests if request.operation not in ("BatchWriteItem", "Query")]
    if mode == "single":
        assert proxy.operations() == ["UpdateItem"] * 16
        assert all("claimToken = :token" in body["ConditionExpression"] for body in proxy.of("UpdateItem"))
    else:
        assert proxy.operations() == ["BatchExecuteStatement"] * 2
        statements = [s["Statement"] for body in proxy.of("BatchExecuteStatement") for s in body["Statements"]]
        assert len(statements) == 16
        assert all("claimToken = ?" in text.partition(" WHERE ")[2] for text in statements)


async def test_sixty_claims_are_three_batches_after_one_query(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    await outbox.publish([Event("order.placed") for _ in range(60)])
    proxy.requests.clear()
    claims = await outbox.claim(60)
    assert len(claims) == 60
    assert proxy.operations() == ["Query"] + ["BatchExecuteStatement"] * 3
    assert [len(body["Statements"]) for body in proxy.of("BatchExecuteStatement")] == [25, 25, 10]


async def test_pages_of_the_index_are_followed(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, table_name: str
) -> None:
    await outbox.publish([Event("order.placed") for _ in range(12)])
    stale: dict[str, Any] = {}

    def lagging(reply: dict[str, Any]) -> dict[str, Any]:
        stale.setdefault("Items", reply["Items"])
        stale.setdefault("LastEvaluatedKey", reply.get("LastEvaluatedKey"))
        return stale

    # The first page shows five events that somebody else took meanwhile; those behind it are found all the same.
    proxy.rule = lambda request: (
        lagging if "ExclusiveStartKey" not in request.body and request.operation == "Query" else None
    )
    taken = await outbox.claim(5)
    other = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch")
    found = await other.claim(5)
    assert len({claim.event.id for claim in [*taken, *found]}) == 10


async def test_stale_index_row_costs_one_refused_write(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, table_name: str
) -> None:
    await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(3)])
    frozen: dict[str, Any] = {}

    def lagging(reply: dict[str, Any]) -> dict[str, Any]:
        frozen.setdefault("Items", reply["Items"])
        return frozen

    proxy.rule = lambda request: lagging if request.operation == "Query" else None
    assert len(await outbox.claim(3)) == 3
    other = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch")
    proxy.requests.clear()
    assert await other.claim(3) == []
    statements = [s for body in proxy.of("BatchExecuteStatement") for s in body["Statements"]]
    assert len(statements) == 3
    # The worker that claimed them knows, and does not even try.
    proxy.requests.clear()
    assert await outbox.claim(3) == []
    assert proxy.operations() == ["Query"]


async def test_worker_that_meets_others_reads_more_rows_and_one_that_is_alone_does_not(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, table_name: str, peers_time: PeersTime
) -> None:
    peers_time.of(outbox)
    await outbox.publish([Event("order.placed") for _ in range(40)])
    stale: dict[str, Any] = {}

    def lagging(reply: dict[str, Any]) -> dict[str, Any]:
        stale.setdefault("Items", reply["Items"])
        return stale

    other = peers_time.of(DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch"))
    proxy.rule = lambda request: lagging if request.operation == "Query" else None
    await outbox.claim(5)
    await other.claim(5)  # all five are refused: somebody else was there
    proxy.rule = lambda request: None
    for look in (outbox, other, other, outbox):
        assert len(await look.claim(5)) == 5
    # The other looks twice at first, and then at ten; it announces itself to whoever was there. The first reads ahead.
    assert [body["Limit"] for body in proxy.of("Query")][:5] == [5, 5, 5, 50, 10]
    announced, *_ = proxy.of("UpdateItem")
    assert announced["Key"] == {"id": {"S": "dynamodb-outbox-workers"}}


async def test_busy_worker_reads_ahead_and_claims_what_it_read(
    outbox: DynamoDBOutbox, client: Any, proxy: Proxy, table_name: str
) -> None:
    with_timing(outbox, read_ahead=600.0)
    await outbox.publish([Event("order.placed") for _ in range(200)])
    proxy.requests.clear()
    seen = {claim.event.id for _ in range(11) for claim in await outbox.claim(10)}
    assert len(seen) == 110
    # Ten, and twice the fifty that it has places for.
    assert [body["Limit"] for body in proxy.of("Query")] == [10, 50, 50]
    # What was read too long ago is not even tried: somebody else had the time to take it.
    assert len(await outbox.claim(10)) == 10
    other = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch")
    assert len(await other.claim(60)) == 60
    outbox._parts.claimer._ahead_until = 0.0
    refusals: list[Observation] = []
    outbox.observers.add(refusals.append)
    assert len(await outbox.claim(10)) == 10
    assert refusals == []


# Probing


async def test_auto_uses_batches_after_one_probe(client: Any, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    auto = DynamoDBOutbox(client, table_name=outbox.table_name)
    await auto.publish([Event("order.placed") for _ in range(2)])
    proxy.requests.clear()
    assert len(await auto.claim(2)) == 2
    assert proxy.operations() == ["Query", "BatchExecuteStatement", "BatchExecuteStatement"]
    assert await auto.claim(2) == []
    await auto.prepare()  # another start: another probe
    await auto.publish([Event("order.placed")])
    proxy.requests.clear()
    assert len(await auto.claim(2)) == 1
    assert proxy.count("BatchExecuteStatement") == 2


@pytest.mark.parametrize(
    "answer",
    [
        refused("AccessDeniedException", "not authorized to perform: dynamodb:PartiQLUpdate"),
        refused("InternalServerError", "no PartiQL here", status=500),
        Reply(200, {"Responses": [{"TableName": "order.placed"}]}),
    ],
    ids=["access denied", "http 500", "wrong answer"],
)
async def test_auto_falls_back_to_single_and_says_so_once(
    client: Any, outbox: DynamoDBOutbox, proxy: Proxy, answer: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dynamodb_outbox")
    proxy.rule = lambda request: answer if request.operation == "BatchExecuteStatement" else None
    auto = DynamoDBOutbox(client, table_name=outbox.table_name)
    await auto.publish([Event("order.placed") for _ in range(3)])
    claims = await auto.claim(3)
    assert await auto.settle([(claim, Completed()) for claim in claims]) == [None] * 3
    assert proxy.count("BatchExecuteStatement") == 1
    assert proxy.count("UpdateItem") == 6
    assert len([record for record in caplog.records if "one by one" in record.message]) == 1


async def test_auto_waits_for_a_backend_that_is_down(client: Any, outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    auto = DynamoDBOutbox(client, table_name=outbox.table_name)
    await auto.publish([Event("order.placed")])
    proxy.rule = lambda request: CUT_BEFORE if request.operation == "BatchExecuteStatement" else None
    with giving_up_after(3), pytest.raises(UnavailableError):
        await auto.claim(1)
    proxy.rule = lambda request: None
    assert len(await auto.claim(1)) == 1
    assert proxy.count("UpdateItem") == 0


# Lost responses


async def test_largest_event_with_the_longest_id_is_recovered(local_client: Any, table_name: str) -> None:
    now = 4_000_000_000.0
    outbox = DynamoDBOutbox(local_client, table_name=table_name, clock=lambda: now)
    await outbox.create_table()
    event_id = "i" * 2048
    room = (
        MAX_ITEM_BYTES
        - DELIVERY_BYTES
        - encode_event(Event("order.placed", {"x": ""}, id=event_id), due_at=now, numbers="native")[1]
    )
    await outbox.publish([Event("order.placed", {"x": "y" * room}, id=event_id)])
    assert len(await outbox.claim(1)) == 1
    now += 31
    assert (await outbox.recover()).reset == (event_id,)
    assert (await outbox.claim(1))[0].attempt == 2


@pytest.mark.parametrize("member", [-1, 1.2, -120, 0.012, {"ä", "b"}, {-1, 2}, "ä", [], {"k": None}])
async def test_backend_counts_no_more_than_the_library_does(client: Any, outbox: DynamoDBOutbox, member: Any) -> None:
    members = [member] * 2_000
    _, taken = encode({"members": members, "text": ""}, numbers="native")
    room = MAX_ITEM_BYTES - len("id" + "e" + "value")
    value, size = encode({"members": members, "text": "x" * (room - taken)}, numbers="native")
    assert size == room
    await client.put_item(TableName=outbox.table_name, Item={"id": {"S": "e"}, "value": value})
