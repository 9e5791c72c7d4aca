"""What a write costs, and what a partition takes; the costs are those of docs and of DynamoDB Local."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_outbox import DynamoDBOutbox, Event, EventStatus
from dynamodb_outbox.adapter import Claim, Completed, Failed, Released, Retry
from dynamodb_outbox.dynamodb.schema.table import TableSchema
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from reliability.simulation.partitions import PartitionLimits
from tests.fakes import BLAMED

INDEX = "status-gsiSortKey-index"


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def used(limits: PartitionLimits) -> tuple[int, dict[str, int]]:
    """The units that were used since the last look: of the table, and of the index by its partitions."""
    table = sum(units for (name, _), units in limits.used.items() if name != INDEX)
    index = {key: units for (name, key), units in limits.used.items() if name == INDEX}
    limits.used.clear()
    return table, index


def outbox_with(limits: PartitionLimits, time: Time, **options: Any) -> DynamoDBOutbox:
    backend = Backend(clock=time, gate=limits)
    backend.create_table(TableSchema(table_name="events", indexes={INDEX: "status"}).definition())
    return DynamoDBOutbox(
        direct_client(backend), table_name="events", clock=time, conditional_writes="single", **options
    )


async def claimed(outbox: DynamoDBOutbox, event: Event) -> Claim:
    await outbox.publish([event])
    (claim,) = await outbox.claim(10)
    return claim


@pytest.mark.parametrize(
    ("outcome", "index"),
    [
        (Completed(), {"PROCESSING": 1}),
        (Retry(delay=1, error="x", **BLAMED), {"PROCESSING": 1, "PENDING": 1}),
        (Released(), {"PROCESSING": 1, "PENDING": 1}),
        (Failed(error="x", **BLAMED), {"PROCESSING": 1, "FAILED": 1}),
    ],
)
async def test_units_are_those_of_the_rows_that_leave_and_come(time: Time, outcome: Any, index: Any) -> None:
    limits = PartitionLimits()
    outbox = outbox_with(limits, time)
    await outbox.publish([Event("t")])
    assert used(limits) == (1, {"PENDING": 1})
    (claim,) = await outbox.claim(1)
    assert used(limits) == (1, {"PENDING": 1, "PROCESSING": 1})
    assert await outbox.renew([(claim, time.now + 60)]) == [None]
    assert used(limits) == (1, {"PROCESSING": 2})
    assert await outbox.settle([(claim, outcome)]) == [None]
    assert used(limits) == (1, index)


async def test_units_grow_with_the_kilobytes(time: Time) -> None:
    limits = PartitionLimits()
    await claimed(outbox_with(limits, time), Event("t", "x" * 9_500))
    assert used(limits) == (20, {"PENDING": 20, "PROCESSING": 10})


async def test_refused_write_costs_units_of_the_table_only(time: Time) -> None:
    limits = PartitionLimits()
    outbox = outbox_with(limits, time)
    claim = await claimed(outbox, Event("t"))
    await outbox.settle([(claim, Completed())])
    used(limits)
    assert await outbox.renew([(claim, time.now + 60)]) != [None]
    assert used(limits) == (1, {})


async def test_full_index_partition_holds_up_the_table_until_time_has_passed(time: Time) -> None:
    limits = PartitionLimits(units_per_second=5)
    backend = Backend(clock=time, gate=limits)
    backend.create_table(TableSchema(table_name="events", indexes={INDEX: "status"}).definition())
    client = direct_client(backend)

    async def put(number: int, status: str) -> None:
        item = {"id": {"S": str(number)}, "status": {"S": status}, "gsiSortKey": {"N": "1"}}
        await client.put_item(TableName="events", Item=item)

    for number in range(5):
        await put(number, "PENDING")
    with pytest.raises(ClientError, match=f"ThrottlingException.*index: {INDEX}"):
        await put(5, "PENDING")
    assert "5" not in backend.tables["events"].items
    assert limits.refused == {(INDEX, "PENDING"): 1}
    await put(6, "PROCESSING")  # another partition of the index has units left
    time.now += 0.2
    await put(7, "PENDING")


async def test_publish_waits_for_the_throughput_of_a_partition(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = PartitionLimits(units_per_second=100)
    outbox = outbox_with(limits, time)

    async def sleep(seconds: float) -> None:
        time.now += seconds

    monkeypatch.setattr("anyio.sleep", sleep)
    await outbox.publish([Event("t", {"n": n}) for n in range(250)])
    assert await outbox.count(EventStatus.PENDING) == 250
    assert 1.4 <= time.now - 1_000.0 < 10  # 250 units, of which 100 were there
    assert limits.refused[INDEX, "PENDING"] > 0
