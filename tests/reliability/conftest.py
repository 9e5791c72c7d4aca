"""One table of DynamoDB Local, behind proxies that do to requests what no engine can be asked to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.conftest import MakeOutbox
from tests.reliability.both_backends import TABLE, definition

Items = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture
async def table(local_client: Any, table_name: str) -> str:
    await DynamoDBOutbox(local_client, table_name=table_name).create_table()
    return table_name


@pytest.fixture
async def items(local_client: Any, table: str) -> Items:
    """Reads what is stored, by id, without a proxy between."""

    async def read() -> dict[str, Any]:
        pages = local_client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        found = {item["id"]["S"]: item async for page in pages for item in page["Items"]}
        # Not an event: here workers announce themselves.
        found.pop("dynamodb-outbox-workers", None)
        return found

    return read


@pytest.fixture
def make_outbox(client: Any, table: str) -> MakeOutbox:
    """Makes outboxes on the table, behind the proxy."""

    def make(**options: Any) -> DynamoDBOutbox:
        # Backoffs with little jitter are short ones.
        usual: dict[str, Any] = {"conditional_writes": "batch", "poll_interval": 0.05, "random": lambda: 0.1}
        return DynamoDBOutbox(client, table_name=table, **(usual | options))

    return make


@pytest.fixture
async def both(request: pytest.FixtureRequest, local_client: Any) -> AsyncIterator[tuple[Any, Any, str]]:
    """One table on DynamoDB Local and on the simulated backend, and the partition key of its index."""
    key_name, projection = request.param
    simulated = direct_client(Backend(clock=lambda: 0.0))
    for client in (local_client, simulated):
        await client.create_table(**definition(key_name, projection))
    yield local_client, simulated, key_name
    await local_client.delete_table(TableName=TABLE)
