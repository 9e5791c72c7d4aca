"""Clients for the engines of the tests, and the record of which engines ran."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from dynamodb_outbox.dynamodb.transport.client import tuned_config
from dynamodb_outbox.dynamodb.transport.fast_json import install_fast_json

# The engines speak plain HTTP. A client that verifies reads all certificates first, a quarter of a short test.
ENDPOINT: Final[dict[str, Any]] = {"region_name": "us-east-1", "verify": False}
ENGINES = pytest.StashKey[dict[str, str]]()
# One session for all clients: it keeps the parsed service model, and is bound to no event loop.
SESSION = get_session()
try:
    import aioboto3

    PLAIN_SESSION: Any = aioboto3.Session()
except ModuleNotFoundError:
    PLAIN_SESSION = None


@asynccontextmanager
async def open_client(endpoint: str, **config: Any) -> AsyncGenerator[Any]:
    """Open a client that does not retry by itself, unless the config says otherwise."""
    settings = {"max_pool_connections": 60, "retries": {"mode": "standard", "total_max_attempts": 1}} | config
    async with SESSION.create_client(
        "dynamodb", endpoint_url=endpoint, config=AioConfig(**settings), **ENDPOINT
    ) as client:
        yield client


@asynccontextmanager
async def open_tuned_client(endpoint: str) -> AsyncGenerator[Any]:
    """Open a client as `connect` does: its configuration, and JSON of its own."""
    async with SESSION.create_client("dynamodb", endpoint_url=endpoint, config=tuned_config(60), **ENDPOINT) as client:
        install_fast_json(client)
        yield client


@asynccontextmanager
async def open_plain_client(endpoint: str) -> AsyncGenerator[Any]:
    """Open a client as most users do, without any configuration: it repeats a request up to ten times by itself."""
    create = SESSION.create_client if PLAIN_SESSION is None else PLAIN_SESSION.client
    async with create("dynamodb", endpoint_url=endpoint, **ENDPOINT) as client:
        yield client


async def until_indexes_are_made(client: Any, table_name: str) -> None:
    """Wait for the indexes of a table. While it makes one, DynamoDB Local answers writes with InternalFailure."""
    while True:
        # It may answer this call so, too.
        with suppress(ClientError):
            table = (await client.describe_table(TableName=table_name))["Table"]
            if all(index["IndexStatus"] == "ACTIVE" for index in table["GlobalSecondaryIndexes"]):
                return
        await anyio.sleep(0.05)


CLIENTS: Final = {"connect": open_tuned_client, "one attempt": open_client, "plain": open_plain_client}
"""The clients that an outbox is used with."""
