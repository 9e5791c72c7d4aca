"""Outboxes of one table: with the client of a user, and with that of `connect`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dynamodb_outbox import DynamoDBOutbox
from tests.backends import open_client


@asynccontextmanager
async def plain(endpoint: str, table: str) -> AsyncGenerator[DynamoDBOutbox]:
    async with open_client(endpoint) as client:
        yield DynamoDBOutbox(client, table_name=table, poll_interval=0.05)


@asynccontextmanager
async def connected(endpoint: str, table: str) -> AsyncGenerator[DynamoDBOutbox]:
    async with DynamoDBOutbox.connect(
        table_name=table, region_name="us-east-1", endpoint_url=endpoint, poll_interval=0.05
    ) as outbox:
        yield outbox
