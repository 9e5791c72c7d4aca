"""Workers that share the work softly: they divide it, find what is left behind, and never wait for one that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID
from dynamodb_outbox.dynamodb.delivering.membership import GONE_SECONDS, PATIENCE
from reliability.proxy import refused, running_proxy
from tests.backends import open_client
from tests.dynamodb.conftest import PeersTime


async def workers(client: Any, table_name: str, count: int, *, time: PeersTime, **options: Any) -> list[DynamoDBOutbox]:
    """Outboxes of workers that have just started."""
    made = [time.of(DynamoDBOutbox(client, table_name=table_name, **options)) for _ in range(count)]
    await made[0].create_table()
    for outbox in made:
        await outbox.prepare()
    return made


async def meet(outboxes: list[DynamoDBOutbox]) -> None:
    """Let each learn of all others."""
    for _ in range(2):
        for outbox in outboxes:
            outbox._parts.membership.announce()
            assert await outbox.claim(1) == []


async def test_workers_that_know_each_other_meet_at_no_event(
    local_client: Any, table_name: str, peers_time: PeersTime
) -> None:
    three = await workers(local_client, table_name, 3, time=peers_time, conditional_writes="batch", poll_interval=600)
    await meet(three)
    assert [outbox._parts.membership.count for outbox in three] == [3, 3, 3]
    events = [Event("order.placed") for _ in range(90)]
    await three[0].publish(events)
    rows = [{"id": {"S": event.id}} for event in events]
    shares = [{row["id"]["S"] for row in outbox._parts.membership.split_rows(rows)[0]} for outbox in three]
    assert (sum(map(len, shares)), len(set().union(*shares))) == (90, 90)
    # By their hashes: about thirty each.
    assert min(map(len, shares)) >= 12
    refusals: list[Any] = []
    for outbox in three:
        outbox.observers.add(refusals.append)
    taken = await asyncio.gather(*(outbox.claim(30) for outbox in three))
    for share, claims in zip(shares, taken, strict=True):
        assert len(claims) == min(len(share), 30)
        assert {claim.event.id for claim in claims} <= share
    assert refusals == []


async def test_what_another_has_left_is_taken_after_two_polls(
    local_client: Any, table_name: str, peers_time: PeersTime
) -> None:
    two = await workers(local_client, table_name, 2, time=peers_time, conditional_writes="batch", poll_interval=0.1)
    await meet(two)
    await two[0].publish([Event("order.placed") for _ in range(20)])
    # The other takes nothing, and goes on being there.
    mine = await two[0].claim(30)
    assert 0 < len(mine) < 20
    peers_time.now += PATIENCE * 0.1 - 0.01
    assert await two[0].claim(30) == []
    peers_time.now += 0.02
    mine += await two[0].claim(30)
    assert len({claim.event.id for claim in mine}) == 20


async def test_share_of_one_that_is_gone_is_taken_over(
    local_client: Any, table_name: str, peers_time: PeersTime
) -> None:
    two = await workers(local_client, table_name, 2, time=peers_time, conditional_writes="batch")
    await meet(two)
    for seconds, count in ((0.0, 2), (GONE_SECONDS - 0.01, 2), (0.02, 1)):
        peers_time.now += seconds
        two[0]._parts.membership.announce()
        assert await two[0].claim(1) == []
        assert two[0]._parts.membership.count == count
    await two[0].publish([Event("order.placed") for _ in range(20)])
    assert len(await two[0].claim(30)) == 20


async def test_worker_that_is_alone_announces_itself_once(
    local_endpoint: str, table_name: str, peers_time: PeersTime
) -> None:
    async with running_proxy(local_endpoint) as proxy, open_client(proxy.endpoint) as client:
        (alone,) = await workers(client, table_name, 1, time=peers_time, conditional_writes="batch")
        await alone.publish([Event("order.placed") for _ in range(50)])
        for _ in range(10):
            await alone.claim(5)
        assert proxy.count("UpdateItem") == 1


async def test_announcement_that_fails_changes_nothing(
    local_endpoint: str, table_name: str, peers_time: PeersTime
) -> None:
    async with running_proxy(local_endpoint) as proxy, open_client(proxy.endpoint) as client:
        (outbox,) = await workers(client, table_name, 1, time=peers_time, conditional_writes="batch")
        await outbox.publish([Event("order.placed") for _ in range(5)])
        proxy.rule = lambda request: (
            refused("AccessDeniedException", "not allowed") if request.operation == "UpdateItem" else None
        )
        assert len(await outbox.claim(5)) == 5


async def test_announcements_of_long_ago_are_removed(local_client: Any, table_name: str, peers_time: PeersTime) -> None:
    (outbox,) = await workers(local_client, table_name, 1, time=peers_time)
    await local_client.put_item(
        TableName=table_name, Item={"id": {"S": WORKERS_ID}, "w-old": {"N": "1000"}, "w-odd": {"N": "1790000000000"}}
    )
    for _ in range(2):
        outbox._parts.membership.announce()
        await outbox.claim(1)
    item = (await local_client.get_item(TableName=table_name, Key={"id": {"S": WORKERS_ID}}))["Item"]
    assert "w-old" not in item
    assert len(item) >= 2
