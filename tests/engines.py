"""Clients for the engines of the tests, and the record of which engines ran."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from dynamodb_outbox.dynamodb.wire import speak_json

ENGINES = pytest.StashKey[dict[str, str]]()
# One session for all clients: it keeps the parsed service model, and is bound to no event loop.
SESSION = get_session()


@asynccontextmanager
async def open_client(endpoint: str, **config: Any) -> AsyncGenerator[Any]:
    """Open a client that does not retry by itself, unless the config says otherwise."""
    settings = {"max_pool_connections": 60, "retries": {"mode": "standard", "total_max_attempts": 1}} | config
    async with SESSION.create_client(
        "dynamodb", region_name="us-east-1", endpoint_url=endpoint, config=AioConfig(**settings)
    ) as client:
        yield client


@asynccontextmanager
async def open_tuned_client(endpoint: str) -> AsyncGenerator[Any]:
    """Open a client that writes and reads JSON as that of `connect` does."""
    async with open_client(endpoint, parameter_validation=False) as client:
        speak_json(client)
        yield client
