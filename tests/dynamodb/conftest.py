"""DynamoDB Local behind a proxy that records what is sent, and breaks what it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus
from reliability.proxy import Proxy, running_proxy
from tests.adapter_timing import with_timing
from tests.backends import open_client
from tests.dynamodb.bank import Bank
from tests.dynamodb.lines import Line, line_of
from tests.dynamodb.windows import Desk, keeping_leases
from tests.fakes import Clock


@pytest.fixture
async def outbox(client: Any, proxy: Proxy, table_name: str) -> DynamoDBOutbox:
    """An outbox on a new table, whose workers look so rarely that no request is there but those that a test makes."""
    made = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch", poll_interval=30)
    await made.create_table()
    proxy.requests.clear()
    return made


@pytest.fixture(params=["moto", "local"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of moto, and that of DynamoDB Local."""
    return str(request.getfixturevalue(f"{request.param}_endpoint"))


@pytest.fixture(params=["moto", "local"])
async def bank(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Bank]:
    """An outbox and a table of accounts, on moto and on DynamoDB Local."""
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    accounts = f"{table_name}-accounts"
    async with running_proxy(endpoint) as proxy, open_client(proxy.endpoint) as client:
        errors: list[Any] = []
        outbox = DynamoDBOutbox(
            client, table_name=table_name, poll_interval=0.05, base_backoff=0.01, on_error=errors.append
        )
        await outbox.create_table()
        await client.create_table(
            TableName=accounts,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        await client.put_item(TableName=accounts, Item={"id": {"S": "ada"}, "balance": {"N": "10"}})
        yield Bank(client, outbox, OutboxEventBus(outbox), proxy, accounts, errors)


class PeersTime:
    """A loop's time that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def current_time(self) -> float:
        return self.now

    def of(self, outbox: DynamoDBOutbox) -> DynamoDBOutbox:
        """Let the worker of an outbox judge the others by this time."""
        return with_timing(outbox, loop_time=self.current_time, announcement=30.0)


@pytest.fixture
def peers_time() -> PeersTime:
    """The time by which workers judge each other: nobody is gone, or impatient, because the machine pauses."""
    return PeersTime()


@pytest.fixture(params=["batch", "single"])
async def desk(request: pytest.FixtureRequest, client: Any, proxy: Proxy, table_name: str) -> AsyncIterator[Desk]:
    """An open window, in both write modes; without batches, there are no INSERTs."""
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes=request.param)
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        proxy.requests.clear()
        yield desk


@pytest.fixture
async def inserting(client: Any, proxy: Proxy, table_name: str) -> AsyncIterator[Desk]:
    """An open window, with INSERTs."""
    outbox = DynamoDBOutbox(client, table_name=table_name, conditional_writes="batch")
    await outbox.create_table()
    async with keeping_leases(outbox, client) as desk:
        proxy.requests.clear()
        yield desk


@pytest.fixture(params=["moto-single", "local-batch", "local-batch-sharded"])
async def line(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Line]:
    """The line of a key, on moto and on DynamoDB Local, there also with shards."""
    name, mode, *sharded = str(request.param).split("-")
    async with open_client(request.getfixturevalue(f"{name}_endpoint")) as client:
        options = {"shards": 4} if sharded else {}
        made = line_of(client, table_name, Clock(), conditional_writes=mode, **options)
        await made.outbox.create_table()
        yield made
