"""The clients and the tables of all measurements, on DynamoDB Local."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from aiobotocore.session import get_session

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.schema.table import Projection
from dynamodb_outbox.dynamodb.transport.client import DynamoDBClient, tuned_client, tuned_config

REGION: Final = "us-east-1"
CONNECTIONS: Final = 420


def use_fake_credentials() -> None:
    """Set credentials, so that the SDK does not search for real ones: DynamoDB Local accepts any credentials."""
    os.environ.update(AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark", AWS_DEFAULT_REGION=REGION)


@dataclass(frozen=True, slots=True)
class Clients:
    """The two sides of every comparison."""

    ours: DynamoDBClient
    """The client that `DynamoDBOutbox.connect` makes, for the library."""
    bare: Any
    """A plain aiobotocore client with the same configuration, for the baselines."""


def tuned(endpoint: str) -> AbstractAsyncContextManager[DynamoDBClient]:
    """Open the same client as `DynamoDBOutbox.connect`."""
    return tuned_client(region_name=REGION, endpoint_url=endpoint, connections=CONNECTIONS)


@asynccontextmanager
async def connected(endpoint: str) -> AsyncGenerator[Clients]:
    """Open both clients."""
    create = get_session().create_client
    made = create("dynamodb", region_name=REGION, endpoint_url=endpoint, config=tuned_config(CONNECTIONS))
    async with tuned(endpoint) as ours, made as bare:
        yield Clients(ours, bare)


async def new_table(client: DynamoDBClient, projection: Projection = "ALL") -> str:
    """Create an empty table, and return its name."""
    name = f"benchmark-{uuid4().hex[:12]}"
    await DynamoDBOutbox(client, table_name=name).create_table(projection=projection)
    return name


async def drop_table(client: Any, name: str) -> None:
    """Delete a table, so that the memory of DynamoDB Local does not grow from run to run."""
    await client.delete_table(TableName=name)
