"""Events with an ordering key are delivered one at a time, in order: claims, settles and recovery of their queues."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.claims import Claim
from tests.backends import open_client
from tests.dynamodb.queues import Line


@pytest.fixture(params=["moto single", "local batch", "local single", "local batch 4"])
async def line(request: pytest.FixtureRequest, table_name: str) -> Any:
    backend, mode, *shards = request.param.split()
    endpoint = request.getfixturevalue(f"{backend}_endpoint")
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(
            client, table_name=table_name, conditional_writes=mode, shards=int(shards[0]) if shards else 1
        )
        await outbox.create_table()
        yield Line(client, outbox)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("count", [1, 2, 12, 45])
async def test_events_of_a_key_come_in_order_one_at_a_time(line: Line, count: int, *, keep: bool) -> None:
    ids = [f"e{number}" for number in range(count)]
    await line.emit(*ids)
    assert await line.work_off(keep=keep) == ids
    assert await line.item() == {}
    assert {await line.status(each) for each in ids} == {"COMPLETED"}


async def test_claim_is_of_the_event_at_the_front(line: Line) -> None:
    await line.emit("a", "b")
    claim = await line.claim()
    assert (claim.event.id, claim.event.ordering_key, claim.attempt) == ("a", line.key, 1)
    assert await line.outbox.claim(10) == []
    following = await line.settle(claim, keep=True)
    assert isinstance(following, Claim)
    assert (following.event.id, following.attempt) == ("b", 1)
    assert following.token != claim.token
    assert await line.settle(following, keep=True) is None
