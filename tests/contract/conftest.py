"""One outbox after the other, each on a table of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.adapter import Outbox
from reliability.partiql import refuse_undocumented
from reliability.proxy import running_proxy
from reliability.simulation.backend import Backend
from reliability.simulation.client import direct_client
from tests.backends import ENGINES, open_client
from tests.contract.adapters import Adapter, dynamodb_adapter, memory_adapter
from tests.fakes import Clock
from tests.thorough import often

SIMULATED = "simulated"
LESS_OFTEN = ("local-batch-keys-only", "local-batch-sharded", "local-batch-documented")
"""Only with THOROUGH=1. Every day, the simulated backend has keys-only and shards."""
DOCUMENTED = "documented"
"""DynamoDB Local, but for statements that AWS does not document: these are refused."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(
    params=[
        "memory",
        "simulated-single",
        "simulated-batch",
        "simulated-batch-keys-only",
        "simulated-batch-sharded",
        "moto-single",
        "local-single",
        "local-batch",
        *LESS_OFTEN[: often(0, thorough=len(LESS_OFTEN))],
    ]
)
def engine(request: pytest.FixtureRequest) -> tuple[str, str, str | None]:
    """The write mode, the kind of index, and an engine's endpoint, which is none for one in this process."""
    name, _, mode = str(request.param).partition("-")
    if name == "memory":
        request.config.stash[ENGINES]["InMemoryOutbox"] = "ran"
        return mode, "", None
    mode, _, index = mode.partition("-")
    return mode, index, SIMULATED if name == "simulated" else request.getfixturevalue(f"{name}_endpoint")


@asynccontextmanager
async def client_of(endpoint: str, clock: Clock, index: str) -> AsyncGenerator[Any]:
    if endpoint == SIMULATED:
        yield direct_client(Backend(clock=clock))
        return
    if index == DOCUMENTED:
        async with running_proxy(endpoint) as proxy, open_client(proxy.endpoint) as client:
            proxy.rule = refuse_undocumented
            yield client
        return
    async with open_client(endpoint) as client:
        yield client


@pytest.fixture
async def adapter(engine: tuple[str, Any, str | None], clock: Clock, table_name: str) -> AsyncIterator[Adapter]:
    mode, index, endpoint = engine
    options = {"shards": 4} if index == "sharded" else {}
    if endpoint is None:
        yield memory_adapter(clock)
        return
    async with client_of(endpoint, clock, index) as client:
        projection: Any = "KEYS_ONLY" if index == "keys-only" else "ALL"
        await DynamoDBOutbox(client, table_name=table_name, **options).create_table(projection=projection)
        yield dynamodb_adapter(client, table_name, mode, clock, **options)


@pytest.fixture
def outbox(adapter: Adapter) -> Outbox:
    return adapter.make()
