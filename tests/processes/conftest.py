"""Fixtures of the tests with processes of their own; all of them need DynamoDB Local."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from tests.processes.workers import Workers, kill


@pytest.fixture
def workers(local_endpoint: str, table_name: str, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(local_endpoint, table_name, tmp_path / "history.jsonl")
    yield started
    for process in started.processes:
        kill(process)


@pytest.fixture
async def outbox(local_client: Any, table_name: str) -> DynamoDBOutbox:
    made = DynamoDBOutbox(local_client, table_name=table_name, poll_interval=0.1)
    await made.create_table()
    return made


@pytest.fixture
async def data_table(local_client: Any, table_name: str) -> str:
    """A table of the application's own."""
    name = f"{table_name}-data"
    await local_client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name
