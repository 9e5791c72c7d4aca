"""One outbox after the other, each on a table of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Outbox
from tests.contract.adapters import Adapter, Clock, dynamodb_adapter, memory_adapter
from tests.engines import ENGINES, open_client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "moto-single", "local-single", "local-batch", "local-batch-keys-only"])
def engine(request: pytest.FixtureRequest) -> tuple[str, str, str | None]:
    """An engine's endpoint (None in memory), the write mode, and the projection of the index."""
    name, _, mode = str(request.param).partition("-")
    if name == "memory":
        request.config.stash[ENGINES]["InMemoryOutbox"] = "ran"
        return mode, "ALL", None
    mode, _, projection = mode.partition("-")
    return mode, "KEYS_ONLY" if projection else "ALL", request.getfixturevalue(f"{name}_endpoint")


@pytest.fixture
async def adapter(engine: tuple[str, Any, str | None], clock: Clock, table_name: str) -> AsyncIterator[Adapter]:
    mode, projection, endpoint = engine
    if endpoint is None:
        yield memory_adapter(clock)
        return
    async with open_client(endpoint) as client:
        await DynamoDBOutbox(client, table_name=table_name).create_table(projection=projection)
        yield dynamodb_adapter(client, table_name, mode, clock)


@pytest.fixture
def outbox(adapter: Adapter) -> Outbox:
    return adapter.make()
