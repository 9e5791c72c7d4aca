"""`FastStreamPublisher` with a real RabbitMQ server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange

from dynamodb_outbox import ConfigurationError, Event, TargetError
from dynamodb_outbox.publishers import FastStreamPublisher
from tests.publishers.crashes import Watched, a_bus, survives_a_crash
from tests.publishers.servers import MAX_MESSAGE_BYTES, RabbitServer


def url_of(server: RabbitServer) -> str:
    return f"amqp://guest:guest@{server.address}/"


@pytest.fixture
async def broker(rabbit_server: RabbitServer) -> AsyncIterator[RabbitBroker]:
    async with RabbitBroker(url_of(rabbit_server), reconnect_interval=0.1, logger=None) as broker:
        yield broker


@pytest.fixture
async def rabbit(rabbit_server: RabbitServer) -> AsyncIterator[AbstractRobustChannel]:
    from aio_pika import connect_robust

    connection: AbstractRobustConnection
    async with await connect_robust(url_of(rabbit_server), reconnect_interval=0.1) as connection:
        yield await connection.channel()  # type: ignore[misc]  # a robust connection has robust channels


@pytest.fixture
async def queue(rabbit: AbstractRobustChannel) -> str:
    name = f"orders-{uuid4().hex[:8]}"
    await rabbit.declare_queue(name, durable=True)
    return name


async def take_all(rabbit: AbstractRobustChannel, queue: str) -> list[AbstractIncomingMessage]:
    declared = await rabbit.get_queue(queue, ensure=False)
    taken = []
    while (message := await declared.get(no_ack=True, fail=False)) is not None:
        taken.append(message)
    return taken


async def taken_ids(rabbit: AbstractRobustChannel, queue: str) -> list[str]:
    return [json.loads(message.body)["id"] for message in await take_all(rabbit, queue)]


async def test_an_event_arrives_in_a_queue(broker: RabbitBroker, rabbit: Any, queue: str) -> None:
    event = Event("order.placed", {"n": 1}, id="e 1", metadata={"correlationId": "c1", "traceparent": "00-ab-cd-01"})
    await FastStreamPublisher(broker, destination=queue, source="/shop")(event)
    (message,) = await take_all(rabbit, queue)
    assert json.loads(message.body)["data"] == {"n": 1}
    assert message.delivery_mode is DeliveryMode.PERSISTENT
    assert (message.message_id, message.correlation_id, message.type) == ("e 1", "c1", "order.placed")
    assert message.content_type == "application/cloudevents+json"
    assert message.headers == {
        "message_id": "e%201",
        "type": "order.placed",
        "content-type": "application/cloudevents+json",
        "traceparent": "00-ab-cd-01",
    }


async def test_an_event_from_before_1970_arrives_though_no_property_can_have_its_time(
    broker: RabbitBroker, rabbit: Any, queue: str
) -> None:
    born = datetime(1906, 12, 9, tzinfo=UTC)
    await FastStreamPublisher(broker, destination=queue)(Event("person.imported", occurred_at=born))
    (message,) = await take_all(rabbit, queue)
    assert message.timestamp == datetime(1970, 1, 1, tzinfo=UTC)
    assert json.loads(message.body)["time"] == "1906-12-09T00:00:00Z"


async def test_an_event_arrives_through_an_exchange(broker: RabbitBroker, rabbit: Any, queue: str) -> None:
    exchange = RabbitExchange(f"x-{queue}", type=ExchangeType.TOPIC, durable=True)
    await (await rabbit.get_queue(queue)).bind(await rabbit.declare_exchange(exchange.name, "topic"), "order.*")
    event = Event("order.placed", {"n": 1}, id="ü" * 500)
    for given in (exchange, exchange.name):
        await FastStreamPublisher(broker, destination=lambda e: e.type, exchange=given, format="payload")(event)
    messages = await take_all(rabbit, queue)
    assert [json.loads(message.body) for message in messages] == [{"n": 1}, {"n": 1}]
    # A property has 255 bytes at most, a header any number.
    assert len(messages[0].message_id) == 64
    assert messages[0].headers["message_id"] == "%C3%BC" * 500


@pytest.mark.parametrize("kind", ["queue", "exchange", "binding"])
async def test_what_is_missing_completes_nothing_and_events_arrive_later(
    broker: RabbitBroker, rabbit: Any, queue: str, kind: str
) -> None:
    options = {} if kind == "queue" else {"exchange": f"x-{queue}"}
    missing = f"missing-{queue}"
    publisher = Watched(FastStreamPublisher(broker, destination=missing, **options))
    if kind == "binding":
        await rabbit.declare_exchange(f"x-{queue}")
    bus = a_bus(publisher, lambda error: None)
    async with bus:
        event = await bus.emit("order.placed")
        await publisher.until(lambda: len(publisher.failed) > 1)
        assert not publisher.confirmed
        declared = await rabbit.declare_queue(missing)
        if kind != "queue":
            await declared.bind(await rabbit.declare_exchange(f"x-{queue}"), missing)
        await bus.drain(60)
    expected = ("ChannelNotFoundEntity", True) if kind == "exchange" else ("NO_ROUTE", False)
    assert (publisher.failed[0].code, publisher.failed[0].maybe_sent) == expected
    assert event is not None
    assert await taken_ids(rabbit, missing) == [event.id]


async def test_two_handlers_of_an_event_do_not_get_the_result_of_each_other(
    broker: RabbitBroker, rabbit: Any, queue: str
) -> None:
    there = FastStreamPublisher(broker, destination=queue)
    missing = FastStreamPublisher(broker, destination=f"missing-{queue}")
    events = [Event("order.placed", {"n": n}) for n in range(20)]
    calls = [publisher(event) for event in events for publisher in (missing, there)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [TargetError, type(None)] * 20
    assert sorted(await taken_ids(rabbit, queue)) == sorted(event.id for event in events)


async def test_an_event_that_is_too_large_is_rejected_and_its_neighbours_arrive(
    broker: RabbitBroker, rabbit: Any, queue: str
) -> None:
    bus = a_bus(FastStreamPublisher(broker, destination=queue), lambda error: None)
    async with bus:
        good = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(5)])
        bad = await bus.emit("order.placed", "x" * MAX_MESSAGE_BYTES)
        good += await bus.emit_many([Event("order.placed", {"n": n}) for n in range(5)])
        await bus.drain(60)
    (failed,) = await bus.get_failed_events()
    assert bad is not None
    assert failed.id == bad.id
    assert f"larger than configured max size {MAX_MESSAGE_BYTES}" in failed.last_error
    assert set(await taken_ids(rabbit, queue)) == {event.id for event in good}


async def test_a_full_queue_refuses_and_nothing_is_rejected(broker: RabbitBroker, rabbit: Any, queue: str) -> None:
    full = f"full-{queue}"
    await rabbit.declare_queue(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publisher = FastStreamPublisher(broker, destination=full)
    await publisher(Event("order.placed"))
    with pytest.raises(TargetError) as raised:
        await publisher(Event("order.placed"))
    assert (raised.value.code, raised.value.maybe_sent) == ("DeliveryError", False)


async def test_a_broker_without_confirms_completes_nothing(rabbit_server: RabbitServer, queue: str) -> None:
    channel = Channel(publisher_confirms=False)
    async with RabbitBroker(url_of(rabbit_server), default_channel=channel, logger=None) as broker:
        with pytest.raises(TargetError, match="default channel has publisher confirms") as raised:
            await FastStreamPublisher(broker, destination=queue)(Event("order.placed"))
    assert (raised.value.code, raised.value.maybe_sent) == ("NotConfirmed", True)


async def test_a_server_that_does_not_answer_is_an_error_of_the_target(
    rabbit_server: RabbitServer, broker: RabbitBroker, rabbit: Any, queue: str
) -> None:
    publisher = FastStreamPublisher(broker, destination=queue, timeout=0.2)
    patient = FastStreamPublisher(broker, destination=queue, timeout=60)
    await patient(Event("order.placed", id="e1"))
    with rabbit_server.paused(), pytest.raises(TargetError, match=r"no confirmation within 0\.2 s") as raised:
        await publisher(Event("order.placed", id="e2"))
    assert raised.value.maybe_sent is True
    await patient(Event("order.placed", id="e2"))
    assert await taken_ids(rabbit, queue) == ["e1", "e2", "e2"]


@pytest.mark.thorough
async def test_every_event_arrives_though_the_server_is_killed(
    rabbit_server: RabbitServer, broker: RabbitBroker, rabbit: Any, queue: str
) -> None:
    publisher = FastStreamPublisher(broker, destination=queue, timeout=1)
    emitted = await survives_a_crash(rabbit_server, publisher)
    assert set(await taken_ids(rabbit, queue)) == set(emitted)


async def test_verify_finds_a_missing_queue_or_exchange(broker: RabbitBroker, rabbit: Any, queue: str) -> None:
    exchange = f"{queue}-exchange"
    await FastStreamPublisher(broker, destination=queue).verify()
    with pytest.raises(ConfigurationError, match=r"RabbitMQ has no queue 'missing': .*; declare it before the bus"):
        await FastStreamPublisher(broker, destination="missing").verify()
    for given in (exchange, RabbitExchange(exchange)):
        with pytest.raises(ConfigurationError, match=f"RabbitMQ has no exchange '{exchange}'"):
            await FastStreamPublisher(broker, destination="any", exchange=given).verify()
    await rabbit.declare_exchange(exchange)
    await FastStreamPublisher(broker, destination="any", exchange=exchange).verify()
    # Events are published as before, on the channel of the broker.
    await FastStreamPublisher(broker, destination=queue)(Event("order.placed", id="e1"))
    assert await taken_ids(rabbit, queue) == ["e1"]
