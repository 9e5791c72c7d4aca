"""Fixtures of the publishers' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.config import AioConfig

from dynamodb_outbox.publishers import SqsPublisher
from reliability.proxy import Proxy, running_proxy
from tests.backends import ENDPOINT, SESSION
from tests.programs import path_of
from tests.publishers.queues import Queue
from tests.publishers.servers import NatsServer, RabbitServer, RedisServer, running


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


@pytest.fixture
async def publisher(queue: Queue, sqs_proxy: Proxy) -> AsyncIterator[SqsPublisher]:
    """Its own client sends through the proxy."""
    async with SqsPublisher(
        queue_url=queue.url, region_name="us-east-1", endpoint_url=sqs_proxy.endpoint, source="/shop"
    ) as made:
        yield made


@pytest.fixture(scope="session")
def nats_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    path = path_of("NATS", request.config)
    with running(NatsServer(path, tmp_path_factory.mktemp("nats"))) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    path = path_of("Redis", request.config)
    with running(RedisServer(path, tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """It takes seconds to start."""
    path = path_of("RabbitMQ", request.config)
    with running(RabbitServer(path, tmp_path_factory.mktemp("rabbitmq"))) as server:
        yield server
