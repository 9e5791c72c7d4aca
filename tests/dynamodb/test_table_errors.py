"""A table or an index that is missing or different is named, with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import (
    DynamoDBOutbox,
    Event,
    IndexNotFoundError,
    OutboxEventBus,
    StorageError,
    TableMismatchError,
    TableNotFoundError,
)
from tests.backends import open_client
from tests.dynamodb.raw_tables import raw_table


async def test_emit_before_create_names_the_table_and_the_remedy(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        bus = OutboxEventBus(outbox)
        calls: list[Any] = [
            lambda: bus.emit("order.placed"),
            lambda: bus.emit_many([Event("order.placed") for _ in range(60)]),
            lambda: outbox.claim(1),
            outbox.recover,
            bus.get_failed_events,
            outbox.verify_table,
        ]
        for call in calls:
            with pytest.raises(TableNotFoundError, match="create_table") as caught:
                await call()
            assert caught.value.table_name == table_name
        with pytest.raises(StorageError):
            await bus.retry_events(["e"])


async def test_missing_index_is_named(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        definition = raw_table(table_name, GlobalSecondaryIndexes=None)
        definition["AttributeDefinitions"] = definition["AttributeDefinitions"][:1]
        await client.create_table(**definition)
        outbox = DynamoDBOutbox(client, table_name=table_name)
        with pytest.raises(IndexNotFoundError, match="verify_table") as caught:
            await outbox.claim(1)
        assert caught.value.index_name == "status-gsiSortKey-index"
        with pytest.raises(TableMismatchError, match="index 'status-gsiSortKey-index' is missing"):
            await outbox.verify_table()


async def test_key_of_another_type_is_named(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        definition = raw_table(table_name)
        definition["AttributeDefinitions"][0]["AttributeType"] = "N"
        await client.create_table(**definition)
        outbox = DynamoDBOutbox(client, table_name=table_name)
        with pytest.raises(TableMismatchError, match=r"HASH id \(N\), it should be HASH id \(S\)"):
            await outbox.verify_table()
        with pytest.raises(TableMismatchError) as caught:
            await outbox.create_table()
        assert len(caught.value.differences) == 1
        with pytest.raises(StorageError, match="put_item was refused"):
            await outbox.publish([Event("order.placed")])


async def test_verify_lists_every_difference(local_client: Any, table_name: str) -> None:
    index = {
        "IndexName": "other-index",
        "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["type"]},
    }
    definition = raw_table(table_name, GlobalSecondaryIndexes=[index])
    definition["AttributeDefinitions"].pop()
    await local_client.create_table(**definition)
    outbox = DynamoDBOutbox(local_client, table_name=table_name, retention=60, status_index_name="other-index")
    with pytest.raises(TableMismatchError) as caught:
        await outbox.verify_table()
    key, projection, ttl = caught.value.differences
    assert "it should be HASH status (S) + RANGE gsiSortKey (N)" in key
    assert "projects INCLUDE, it should be ALL or KEYS_ONLY" in projection
    assert "time to live is not enabled on the attribute 'expireAt'" in ttl
    assert all(difference in str(caught.value) for difference in caught.value.differences)


@pytest.mark.parametrize("projection", ["ALL", "KEYS_ONLY"])
async def test_create_table_twice_is_no_error_and_verifies(endpoint: str, table_name: str, projection: Any) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name, retention=86_400)
        await outbox.create_table(projection=projection)
        await outbox.create_table(projection=projection, wait=False)
        await outbox.verify_table()
        description = await client.describe_time_to_live(TableName=table_name)
        assert description["TimeToLiveDescription"]["AttributeName"] == "expireAt"


async def test_retention_sets_the_time_to_live_of_completed_events(
    local_client: Any, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamodb_outbox.adapter import Completed

    outbox = DynamoDBOutbox(local_client, table_name=table_name, retention=3600, clock=lambda: 4_000_000_000.25)
    await outbox.create_table()
    await outbox.publish([Event("order.placed", id="e")])
    (claim,) = await outbox.claim(1)
    await outbox.settle([(claim, Completed())])
    item = (await local_client.get_item(TableName=table_name, Key={"id": {"S": "e"}}))["Item"]
    assert item["expireAt"] == {"N": "4000003600"}
    assert item["completedOn"] == {"N": "4000000000250"}


async def test_time_to_live_of_another_attribute_is_warned_of(local_client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    specification = {"Enabled": True, "AttributeName": "expires"}
    await local_client.update_time_to_live(TableName=table_name, TimeToLiveSpecification=specification)
    kept = DynamoDBOutbox(local_client, table_name=table_name, retention=3600)
    with pytest.raises(TableMismatchError, match="not enabled on the attribute 'expireAt'"):
        await kept.create_table()
    with pytest.raises(TableMismatchError, match="not enabled on the attribute 'expireAt'"):
        await kept.verify_table()
