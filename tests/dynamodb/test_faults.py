"""What users meet when something is missing, closed, down or wrong: a typed error that says what to do."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from aiobotocore.config import AioConfig

import dynamodb_local
from benchmarks.units import item_bytes
from dynamodb_outbox import (
    ClientClosedError,
    ConfigurationError,
    CredentialsError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    IndexNotFoundError,
    InMemoryOutbox,
    OutboxEventBus,
    StorageError,
    StoredEventError,
    TableMismatchError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from dynamodb_outbox.dynamodb.items.codec import MAX_ITEM_BYTES, SHORT_ERROR_CHARS
from tests.backends import SESSION, open_client
from tests.dynamodb.impatience import giving_up_after


@pytest.fixture(params=["moto", "local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_endpoint"))


def raw_table(name: str, **changes: Any) -> dict[str, Any]:
    """The definition of a table, with one thing different."""
    definition: dict[str, Any] = {
        "TableName": name,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "status", "AttributeType": "S"},
            {"AttributeName": "gsiSortKey", "AttributeType": "N"},
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "status-gsiSortKey-index",
                "KeySchema": [
                    {"AttributeName": "status", "KeyType": "HASH"},
                    {"AttributeName": "gsiSortKey", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }
    return {key: value for key, value in (definition | changes).items() if value is not None}


async def test_emit_before_create_names_the_table_and_the_remedy(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        bus = OutboxEventBus(outbox)
        calls: list[Any] = [
            lambda: bus.emit("t"),
            lambda: bus.emit_many([Event("t") for _ in range(60)]),
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


async def test_missing_index(endpoint: str, table_name: str) -> None:
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


async def test_wrong_key_type(endpoint: str, table_name: str) -> None:
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
            await outbox.publish([Event("t")])


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
    from dynamodb_outbox import Completed

    outbox = DynamoDBOutbox(local_client, table_name=table_name, retention=3600, clock=lambda: 4_000_000_000.25)
    await outbox.create_table()
    await outbox.publish([Event("t", id="e")])
    (claim,) = await outbox.claim(1)
    await outbox.settle([(claim, Completed())])
    item = (await local_client.get_item(TableName=table_name, Key={"id": {"S": "e"}}))["Item"]
    assert item["expireAt"] == {"N": "4000003600"}
    assert item["completedOn"] == {"N": "4000000000250"}


async def test_endpoint_that_is_down_is_named() -> None:
    async with open_client(f"http://127.0.0.1:{dynamodb_local.free_port()}") as client:
        bus = OutboxEventBus(DynamoDBOutbox(client, table_name="events"))
        with giving_up_after(3), pytest.raises(UnavailableError, match="check the endpoint") as caught:
            await bus.emit("t")
        assert (caught.value.attempts, caught.value.maybe_applied) == (3, False)


async def test_no_credentials(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiobotocore.session import get_session

    for name in list(os.environ):
        if name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
    async with get_session().create_client("dynamodb", region_name="us-east-1", endpoint_url=endpoint) as client:
        with pytest.raises(CredentialsError, match="credentials"):
            await OutboxEventBus(DynamoDBOutbox(client, table_name="events")).emit("t")


async def test_client_that_was_closed(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
    for call in (lambda: outbox.publish([Event("t")]), lambda: outbox.claim(1)):
        with pytest.raises(ClientClosedError, match="async with"):
            await call()


async def test_client_of_another_loop(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
        with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(lambda: asyncio.run(outbox.publish([Event("t")])))
        assert await outbox.count(EventStatus.PENDING) == 0


async def test_unreadable_item_is_failed_and_the_others_are_delivered(local_client: Any, table_name: str) -> None:
    errors: list[Any] = []
    outbox = DynamoDBOutbox(local_client, table_name=table_name, on_error=errors.append, poll_interval=0.05)
    await outbox.create_table()
    pending = {"status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}}
    for broken in (
        {"id": {"S": "no-type"}, "payload": {"M": {}}, "occurredAt": {"S": "2026-01-01T00:00:00Z"}},
        {"id": {"S": "no-payload"}, "type": {"S": "t"}, "occurredAt": {"S": "2026-01-01T00:00:00Z"}},
        {"id": {"S": "bad-time"}, "type": {"S": "t"}, "payload": {"M": {}}, "occurredAt": {"S": "yesterday"}},
        {"id": {"S": "odd"}, "type": {"N": "1"}, "payload": {"L": []}, "occurredAt": {"S": ""}},
    ):
        await local_client.put_item(TableName=table_name, Item=broken | pending)
    bus = OutboxEventBus(outbox)
    handled: list[Event] = []

    @bus.on("t")
    async def handler(event: Event) -> None:
        handled.append(event)

    async with bus:
        await bus.emit("t", {"n": 1})
        await bus.drain(60)
    assert len(handled) == 1
    failed = {event.id: event for event in await bus.get_failed_events()}
    assert failed.keys() == {"no-type", "no-payload", "bad-time", "odd"}
    assert "the attribute 'payload' is missing" in failed["no-payload"].last_error
    assert {error.event_id for error in errors if isinstance(error, StoredEventError)} == failed.keys()


async def test_unreadable_item_without_room_for_its_error_is_failed_with_a_shorter_one(
    local_client: Any, table_name: str
) -> None:
    # A time has fewer bytes when its last digits are zeros.
    clock = 1_790_000_000.123
    outbox = DynamoDBOutbox(local_client, table_name=table_name, on_error=lambda error: None, clock=lambda: clock)
    await outbox.create_table()

    async def set_aside(event_id: str, filler: int) -> dict[str, Any]:
        item = {"type": {"S": "t"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}, "filler": {"S": "x" * filler}}
        await local_client.put_item(TableName=table_name, Item={"id": {"S": event_id}, **item})
        assert await outbox.claim(1) == []
        reply = await local_client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
        assert reply["Item"]["status"] == {"S": "FAILED"}
        stored: dict[str, Any] = reply["Item"]
        return stored

    small = await set_aside("e1", 0)
    whole = small["lastError"]["S"]
    room = MAX_ITEM_BYTES - item_bytes(small) + len(whole)
    assert len(whole) > SHORT_ERROR_CHARS + 20
    assert (await set_aside("e2", room - len(whole)))["lastError"] == {"S": whole.replace("e1", "e2")}
    cut = (await set_aside("e3", room - SHORT_ERROR_CHARS - 10))["lastError"]["S"]
    assert cut == whole.replace("e1", "e3")[: SHORT_ERROR_CHARS - 1] + "…"


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


async def test_report_of_an_unreadable_item_reaches_the_bus_and_delays_no_other_event(
    local_client: Any, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodb_outbox.worker.worker.GRACE", 0.1)
    outbox = DynamoDBOutbox(local_client, table_name=table_name, poll_interval=0.05, claim_on_emit=False)
    await outbox.create_table()
    broken = {"id": {"S": "no-type"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}}
    await local_client.put_item(TableName=table_name, Item=broken)
    told: list[Exception] = []
    handled: list[Event] = []

    async def never_return(error: Exception) -> None:
        told.append(error)
        await asyncio.Event().wait()

    bus = OutboxEventBus(outbox, on_error=never_return)

    @bus.on("t")
    async def handler(event: Event) -> None:
        handled.append(event)

    async with asyncio.timeout(60), bus:
        while not told:
            await asyncio.sleep(0.01)
        await bus.emit("t", {"n": 1})
        await bus.drain(30)
    assert len(handled) == 1
    assert [type(error) for error in told] == [StoredEventError]


async def test_items_of_other_writers_are_read(local_client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    await local_client.put_item(
        TableName=table_name,
        Item={
            "id": {"S": "e"},
            "type": {"S": "t"},
            "payload": {"M": {"n": {"N": "1"}}},
            "occurredAt": {"S": "2024-01-02T03:04:05.678Z"},
            "status": {"S": "PENDING"},
            "gsiSortKey": {"N": "1"},
        },
    )
    (claim,) = await outbox.claim(1)
    assert (claim.attempt, claim.event.payload) == (1, {"n": 1})
    assert claim.event.occurred_at.isoformat() == "2024-01-02T03:04:05.678000+00:00"
    await local_client.update_item(
        TableName=table_name,
        Key={"id": {"S": "e"}},
        UpdateExpression="SET gsiSortKey = :past",
        ExpressionAttributeValues={":past": {"N": "5"}},
    )
    assert (await outbox.recover()).reset == ("e",)
    assert (await outbox.claim(1))[0].attempt == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"table_name": ""}, "table_name=''"),
        ({"table_name": "a b c"}, "3 to 255 characters"),
        ({"status_index_name": "a/b"}, "status_index_name='a/b'"),
        ({"batch_size": 0}, "batch_size=0: it must be a whole number from 1 to 1,000"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"poll_interval": 0}, "poll_interval=0: it must be a number of seconds"),
        ({"poll_interval": float("nan")}, "poll_interval=nan"),
        ({"processing_timeout": -1}, "processing_timeout=-1"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"base_backoff": "1"}, "base_backoff='1'"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"conditional_writes": "often"}, "must be 'auto', 'batch' or 'single'"),
        ({"retention": -5}, "retention=-5"),
        ({"unhandled_timeout": -1}, "unhandled_timeout=-1: it must be a number of seconds"),
        ({"on_error": "print"}, "on_error='print'"),
    ],
)
async def test_bad_configuration_names_parameter_value_and_range(options: dict[str, Any], names: str) -> None:
    client = SESSION.create_client("dynamodb", region_name="us-east-1", endpoint_url="http://127.0.0.1:1")
    async with client as opened:
        with pytest.raises(ConfigurationError) as caught:
            DynamoDBOutbox(opened, **({"table_name": "events"} | options))
    assert names in str(caught.value)


def test_object_that_is_not_a_client_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="open aiobotocore DynamoDB client"):
        DynamoDBOutbox("dynamodb", table_name="events")  # type: ignore[arg-type]  # what is refused


def test_boto3_client_is_refused() -> None:
    import botocore.session

    client = botocore.session.get_session().create_client("dynamodb", region_name="us-east-1")
    with pytest.raises(ConfigurationError, match="boto3's would block"):
        DynamoDBOutbox(client, table_name="events")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "You must specify a region"),
        ({"region_name": "eu central 1"}, "region_name='eu central 1'"),
        ({"region_name": "eu-central-1", "endpoint_url": "localhost:8000"}, "endpoint_url='localhost:8000'"),
    ],
)
async def test_connect_says_what_keeps_it_from_making_a_client(
    given: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(ConfigurationError, match=says) as caught:
        async with DynamoDBOutbox.connect(table_name="events", **given):
            pass
    assert "AWS_DEFAULT_REGION" in str(caught.value)


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"poll_interval": 0}, {"no_such_option": 1}])
async def test_connect_checks_its_options(bad: dict[str, Any], local_endpoint: str) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        async with DynamoDBOutbox.connect(table_name="events", endpoint_url=local_endpoint, **bad):
            pass


async def test_connect_makes_a_tuned_client_and_closes_it(local_endpoint: str, table_name: str) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=local_endpoint, concurrency=30
    ) as outbox:
        config = outbox._client.meta.config
        assert config.max_pool_connections == 38
        assert type(outbox._client._serializer).__name__ == "JSONSerializer", "parameter validation is on"
        assert config.retries["total_max_attempts"] == 1
        await outbox.create_table()
        await outbox.publish([Event("t")])
        assert await outbox.count(EventStatus.PENDING) == 1
    with pytest.raises(ClientClosedError):
        await outbox.publish([Event("t")])


async def test_supplied_client_is_advised_on_at_start(
    local_endpoint: str, table_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with SESSION.create_client("dynamodb", region_name="us-east-1", endpoint_url=local_endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name, concurrency=20)
        await outbox.create_table()
        async with OutboxEventBus(outbox):
            pass
    (record,) = [record for record in caplog.records if record.levelname == "WARNING" and "tuned" in record.message]
    assert "'mode': 'standard'" in record.message
    assert "max_pool_connections=28" in record.message
    caplog.clear()
    good = AioConfig(max_pool_connections=28, retries={"mode": "standard", "total_max_attempts": 1})
    async with (
        SESSION.create_client("dynamodb", region_name="us-east-1", endpoint_url=local_endpoint, config=good) as client,
        OutboxEventBus(DynamoDBOutbox(client, table_name=table_name, concurrency=20)),
    ):
        pass
    assert not [record for record in caplog.records if "tuned" in record.message]


async def test_aioboto3_client_is_a_client(local_endpoint: str, table_name: str) -> None:
    aioboto3 = pytest.importorskip("aioboto3", reason="aioboto3 pins aiobotocore 2.25")
    async with aioboto3.Session().client("dynamodb", region_name="us-east-1", endpoint_url=local_endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
        bus = OutboxEventBus(outbox)
        handled: list[Any] = []

        @bus.on("t")
        async def handler(event: Event) -> None:
            handled.append(event.payload)

        async with bus:
            await bus.emit("t", {"price": 9.99, "n": 3})
            await bus.drain(60)
    assert handled == [{"price": 9.99, "n": 3}]


async def test_in_memory_outbox_refuses_what_dynamodb_refuses() -> None:
    with pytest.raises(ConfigurationError):
        InMemoryOutbox(poll_interval=0)
