"""Fixtures of the tests with processes of their own; all of them need DynamoDB Local."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus
from reliability.stream import switch_on
from tests.adapter_timing import with_timing
from tests.backends import SESSION
from tests.processes.workers import Workers

Judge = Callable[..., Awaitable[None]]


@pytest.fixture
def workers(local_endpoint: str, table_name: str, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(local_endpoint, table_name, tmp_path / "history.jsonl")
    yield started
    for process in started.processes:
        started.kill(process)


@pytest.fixture
async def outbox(local_client: Any, table_name: str) -> DynamoDBOutbox:
    made = DynamoDBOutbox(local_client, table_name=table_name, poll_interval=0.1)
    # With workers on every core the backend may take seconds for an answer to the test.
    with_timing(made, publish=120.0, operator=120.0)
    await made.create_table()
    return made


@pytest.fixture
def bus(outbox: DynamoDBOutbox, workers: Workers) -> OutboxEventBus:
    """Emits, on the record."""
    return OutboxEventBus(workers.recorder.around(outbox))


@pytest.fixture
def judge(workers: Workers, local_client: Any) -> Judge:
    """Has the checker find nothing in what the workers did."""
    return partial(workers.judge, local_client)


@pytest.fixture
async def judge_by_account(
    workers: Workers, outbox: DynamoDBOutbox, local_client: Any, local_endpoint: str
) -> AsyncIterator[Judge]:
    """Has the checker find nothing in what the workers did, nor in the engine's own account, which costs some time."""
    await switch_on(local_client, table_name=outbox.table_name)
    create = SESSION.create_client
    async with create("dynamodbstreams", region_name="us-east-1", endpoint_url=local_endpoint) as streams:
        yield partial(workers.judge, local_client, streams)


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
