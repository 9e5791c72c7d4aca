"""`FastStreamPublisher` with a real Redis server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal
from uuid import uuid4

import pytest
from faststream.redis import RedisBroker
from faststream.redis.parser import BinaryMessageFormatV1
from redis.asyncio import Redis

from dynamodb_outbox import ConfigurationError, Event, OutboxEventBus, TargetError
from dynamodb_outbox.publishers import FastStreamPublisher
from tests.conftest import MakeOutbox
from tests.publishers.crashes import EVENTS, Watched, a_bus, survives_a_crash
from tests.publishers.servers import RedisServer


@pytest.fixture
async def broker(redis_server: RedisServer) -> AsyncIterator[RedisBroker]:
    async with RedisBroker(f"redis://{redis_server.address}", logger=None) as broker:
        yield broker


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(f"redis://{redis_server.address}") as client:
        yield client


@pytest.fixture
def key() -> str:
    return f"orders-{uuid4().hex[:8]}"


async def stored(redis: Redis, key: str) -> list[tuple[Any, dict[str, Any]]]:
    """Return the bodies and headers in a stream or a list."""
    if await redis.type(key) == b"stream":
        raw = [fields[b"__data__"] for _, fields in await redis.xrange(key)]
    else:
        raw = await redis.lrange(key, 0, -1)
    parsed = [BinaryMessageFormatV1.parse(data) for data in raw]
    return [(json.loads(body), headers) for body, headers in parsed]


@pytest.mark.parametrize("redis_type", ["stream", "list"])
async def test_an_event_is_appended_with_headers(
    broker: RedisBroker, redis: Redis, key: str, redis_type: Literal["stream", "list"]
) -> None:
    publisher = FastStreamPublisher(broker, destination=key, redis_type=redis_type, format="payload")
    event = Event("order.plätze", {"n": "ü"}, id="ä", metadata={"correlationId": "ö"})
    await publisher(event)
    assert await redis.type(key) == redis_type.encode()
    assert await stored(redis, key) == [
        (
            {"n": "ü"},
            {
                "message_id": "%C3%A4",
                "correlation_id": "%C3%B6",
                "type": "order.pl%C3%A4tze",
                "content-type": "application/json",
                "time": event.occurred_at.isoformat(),
            },
        )
    ]


async def test_a_refusal_completes_nothing_and_the_event_arrives_later(
    broker: RedisBroker, redis: Redis, key: str
) -> None:
    await redis.set(key, "no stream")
    publisher = Watched(FastStreamPublisher(broker, destination=key))
    bus = a_bus(publisher, lambda error: None)
    async with bus:
        event = await bus.emit("order.placed")
        await publisher.until(lambda: len(publisher.failed) > 1)
        assert not publisher.confirmed
        await redis.delete(key)
        await bus.drain(60)
    assert publisher.failed[0].maybe_sent is False
    assert "WRONGTYPE" in publisher.failed[0].reason
    assert event is not None
    assert [body["id"] for body, _ in await stored(redis, key)] == [event.id]


async def test_every_event_arrives_though_the_server_is_killed(
    redis_server: RedisServer, broker: RedisBroker, redis: Redis, key: str
) -> None:
    emitted = await survives_a_crash(redis_server, FastStreamPublisher(broker, destination=key, timeout=1))
    received = [body["id"] for body, _ in await stored(redis, key)]
    assert set(received) == set(emitted)


async def test_a_server_that_does_not_answer_is_an_error_of_the_target(
    redis_server: RedisServer, broker: RedisBroker, redis: Redis, key: str
) -> None:
    publisher = FastStreamPublisher(broker, destination=key, timeout=0.2)
    await publisher(Event("order.placed", id="e1"))
    with redis_server.paused(), pytest.raises(TargetError, match=r"no confirmation within 0\.2 s") as raised:
        await publisher(Event("order.placed", id="e2"))
    assert raised.value.maybe_sent is True
    # The reply to the event before is not taken for the reply to this one.
    await redis.set(f"{key}-other", "no stream")
    with pytest.raises(TargetError, match="WRONGTYPE"):
        await FastStreamPublisher(broker, destination=f"{key}-other")(Event("order.placed", id="e3"))


async def test_events_of_dynamodb_arrive(broker: RedisBroker, redis: Redis, key: str, local_outbox: MakeOutbox) -> None:
    bus = OutboxEventBus(local_outbox(poll_interval=0.05))
    bus.on("order.placed", FastStreamPublisher(broker, destination=key))
    async with bus:
        emitted = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(EVENTS)])
        await bus.drain(60)
    assert {body["id"] for body, _ in await stored(redis, key)} == {event.id for event in emitted}


async def test_verify_finds_a_key_of_another_type(broker: RedisBroker, redis: Redis, key: str) -> None:
    streams = FastStreamPublisher(broker, destination=key)
    lists = FastStreamPublisher(broker, destination=key, redis_type="list")
    await streams.verify()
    await lists.verify()
    await streams(Event("order.placed"))
    await streams.verify()
    with pytest.raises(ConfigurationError, match=f"Redis key '{key}' is a stream, and redis_type is 'list'"):
        await lists.verify()


async def test_verify_of_a_server_that_does_not_answer(redis_server: RedisServer, broker: RedisBroker) -> None:
    publisher = FastStreamPublisher(broker, destination="orders", timeout=0.3)
    with redis_server.paused(), pytest.raises(TargetError, match=r"could not be checked.* no answer within 0\.3 s"):
        await publisher.verify()
