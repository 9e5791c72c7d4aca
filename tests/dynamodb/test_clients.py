"""Clients that are down, closed, without credentials or of another kind; what `connect` makes and refuses."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from aiobotocore.config import AioConfig

import dynamodb_local
from dynamodb_outbox import (
    ClientClosedError,
    ConfigurationError,
    CredentialsError,
    DynamoDBOutbox,
    Event,
    EventStatus,
    InMemoryOutbox,
    OutboxEventBus,
    UnavailableError,
    UsageError,
)
from tests.backends import SESSION, open_client
from tests.dynamodb.impatience import giving_up_after


async def test_endpoint_that_is_down_is_named() -> None:
    async with open_client(f"http://127.0.0.1:{dynamodb_local.free_port()}") as client:
        bus = OutboxEventBus(DynamoDBOutbox(client, table_name="events"))
        with giving_up_after(3), pytest.raises(UnavailableError, match="check the endpoint") as caught:
            await bus.emit("order.placed")
        assert (caught.value.attempts, caught.value.maybe_applied) == (3, False)


async def test_missing_credentials_are_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiobotocore.session import get_session

    for name in list(os.environ):
        if name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
    async with get_session().create_client("dynamodb", region_name="us-east-1", endpoint_url=endpoint) as client:
        with pytest.raises(CredentialsError, match="credentials"):
            await OutboxEventBus(DynamoDBOutbox(client, table_name="events")).emit("order.placed")


async def test_closed_client_is_named(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
    for call in (lambda: outbox.publish([Event("order.placed")]), lambda: outbox.claim(1)):
        with pytest.raises(ClientClosedError, match="async with"):
            await call()


async def test_client_of_another_loop_is_named(endpoint: str, table_name: str) -> None:
    async with open_client(endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
        with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(lambda: asyncio.run(outbox.publish([Event("order.placed")])))
        assert await outbox.count(EventStatus.PENDING) == 0


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
        (
            {},
            r"client: You must specify a region\. Pass region_name=, or set AWS_DEFAULT_REGION$",
        ),
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
        await outbox.publish([Event("order.placed")])
        assert await outbox.count(EventStatus.PENDING) == 1
    with pytest.raises(ClientClosedError):
        await outbox.publish([Event("order.placed")])


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

        @bus.on("order.placed")
        async def handler(event: Event) -> None:
            handled.append(event.payload)

        async with bus:
            await bus.emit("order.placed", {"price": 9.99, "n": 3})
            await bus.drain(60)
    assert handled == [{"price": 9.99, "n": 3}]


async def test_in_memory_outbox_refuses_what_dynamodb_refuses() -> None:
    with pytest.raises(ConfigurationError):
        InMemoryOutbox(poll_interval=0)
