"""Fixtures of the publishers' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig

from reliability.proxy import Proxy, running_proxy
from tests.backends import ENDPOINT, SESSION
from tests.publishers.queues import Queue


@pytest.fixture
async def sqs(moto_endpoint: str) -> AsyncIterator[Any]:
    config = AioConfig(retries={"mode": "standard", "total_max_attempts": 1})
    async with SESSION.create_client("sqs", endpoint_url=moto_endpoint, config=config, **ENDPOINT) as client:
        yield client


@pytest.fixture
async def queue(sqs: Any) -> Queue:
    name = f"orders-{uuid4().hex[:8]}"
    return Queue(sqs, (await sqs.create_queue(QueueName=name))["QueueUrl"])


@pytest.fixture
async def fifo(sqs: Any) -> Queue:
    name = f"orders-{uuid4().hex[:8]}.fifo"
    return Queue(sqs, (await sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"}))["QueueUrl"])


@pytest.fixture
async def sqs_proxy(moto_endpoint: str) -> AsyncIterator[Proxy]:
    async with running_proxy(moto_endpoint) as proxy:
        yield proxy
