"""`FastStreamPublisher` without a broker: its options, and brokers that are not connected."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from faststream.kafka import KafkaBroker, KafkaMessage, TestKafkaBroker
from faststream.nats import NatsBroker
from faststream.rabbit import RabbitBroker
from faststream.redis import RedisBroker, TestRedisBroker

from dynamodb_outbox import ConfigurationError, Event, TargetError
from dynamodb_outbox.publishers import FastStreamPublisher
from dynamodb_outbox.publishers.brokers.nats import repeat_id
from dynamodb_outbox.publishers.brokers.outgoing import outgoing_of

BROKERS = [
    (NatsBroker, {"stream": "ORDERS"}),
    (RedisBroker, {}),
    (RedisBroker, {"redis_type": "list"}),
    (RabbitBroker, {}),
    (RabbitBroker, {"exchange": "orders"}),
    (KafkaBroker, {}),
]


@pytest.mark.cases(6)
@pytest.mark.parametrize(("broker", "options"), BROKERS)
async def test_a_broker_that_is_not_connected_is_an_error(broker: Any, options: dict[str, Any]) -> None:
    publisher = FastStreamPublisher(broker(), destination="orders", **options)
    with pytest.raises(TargetError, match=r"the broker is not connected; await broker\.start") as raised:
        await publisher(Event("order.placed"))
    assert raised.value.maybe_sent is False


@pytest.mark.cases(6)
@pytest.mark.parametrize(("broker", "options"), BROKERS)
async def test_verify_of_a_broker_that_is_not_connected(broker: Any, options: dict[str, Any]) -> None:
    publisher = FastStreamPublisher(broker(), destination="orders", timeout=0.2, **options)
    with pytest.raises(TargetError, match=r"Broker 'orders' could not be checked: .* was broker\.start\(\) awaited\?"):
        await publisher.verify()


@pytest.mark.cases(13)
@pytest.mark.parametrize(
    ("broker", "options", "message"),
    [
        (object, {}, "it must be a NatsBroker, RedisBroker, RabbitBroker or KafkaBroker"),
        (NatsBroker, {}, "stream=None: pass the name of the JetStream stream"),
        (NatsBroker, {"stream": ""}, "stream=''"),
        (NatsBroker, {"stream": "S", "destination": "orders.*"}, r"destination='orders\.\*': it has a wildcard"),
        (NatsBroker, {"stream": "S", "destination": "orders.>"}, "it has a wildcard"),
        (NatsBroker, {"stream": "S", "exchange": "x"}, "exchange='x': a NatsBroker has no such option"),
        (RedisBroker, {"redis_type": "channel"}, "redis_type='channel'.* nobody listens to"),
        (KafkaBroker, {"stream": "S"}, "stream='S': a KafkaBroker has no such option"),
        (KafkaBroker, {"destination": ""}, "destination=''"),
        (KafkaBroker, {"destination": None}, "destination=None"),
        (KafkaBroker, {"timeout": 0}, "timeout=0"),
        (KafkaBroker, {"format": "xml"}, "format='xml'"),
        (KafkaBroker, {"source": ""}, "source=''"),
    ],
)
def test_wrong_options(broker: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FastStreamPublisher(broker(), **({"destination": "orders"} | options))


async def test_a_destination_that_is_not_a_name_is_an_error() -> None:
    publisher = FastStreamPublisher(KafkaBroker(), destination=lambda event: event.payload)
    with pytest.raises(ConfigurationError, match="destination=17"):
        await publisher(Event("order.placed", 17))


async def test_kafka_gets_the_ordering_key_as_key_and_nothing_is_confirmed_by_none() -> None:
    broker = KafkaBroker()
    received: list[KafkaMessage] = []

    @broker.subscriber("orders")
    async def take(body: Any, message: KafkaMessage) -> None:
        received.append(message)

    publisher = FastStreamPublisher(broker, destination=lambda event: event.type, format="payload")
    # The broker for tests delivers, and returns None, as a producer with acks=0 does.
    async with TestKafkaBroker(broker):
        with pytest.raises(TargetError, match="set acks of the broker to 'all'") as raised:
            await publisher(Event("orders", {"n": 1}, id="ä 1", ordering_key="order 17"))
    assert (raised.value.code, raised.value.maybe_sent) == ("NotConfirmed", True)
    (message,) = received
    raw: Any = message.raw_message
    assert raw.key == b"order 17"
    assert json.loads(message.body) == {"n": 1}
    assert message.headers["message_id"] == "%C3%A4%201"
    assert message.headers["type"] == "orders"
    assert message.content_type == "application/json"


@pytest.mark.parametrize("redis_type", ["stream", "list"])
async def test_an_empty_reply_of_redis_confirms_nothing(redis_type: Any) -> None:
    broker = RedisBroker()
    async with TestRedisBroker(broker):
        with pytest.raises(TargetError) as raised:
            await FastStreamPublisher(broker, destination="orders", redis_type=redis_type)(Event("order.placed"))
    assert (raised.value.code, raised.value.maybe_sent) == ("NotConfirmed", True)


def test_headers_of_a_message() -> None:
    metadata = {"traceparent": "00-ab-cd-01", "tracestate": "a=b, c=d", "correlationId": "c-1"}
    event = Event("order\r\nplaced", {"n": 1}, id=' a%"ü ', metadata=metadata)
    made = outgoing_of(event, format="payload", source="/shop")
    assert made.headers == {
        "message_id": "%20a%25%22%C3%BC%20",
        "type": "order%0D%0Aplaced",
        "content-type": "application/json",
        "time": event.occurred_at.isoformat(),
        "traceparent": "00-ab-cd-01",
        "tracestate": "a=b, c=d",
    }
    assert made.body == b'{"n":1}'
    assert made.correlation_id == "c-1"
    plain = outgoing_of(Event("a", id="e1", metadata={"tracestate": "a\n"}), format="cloudevents", source="/shop")
    assert plain.headers == {"message_id": "e1", "type": "a", "content-type": "application/cloudevents+json"}
    assert plain.correlation_id == "e1"


def test_repeats_have_the_same_id_and_nothing_else_has() -> None:
    def id_of(source: str, event_id: str, subject: str) -> str:
        return repeat_id(outgoing_of(Event("a", id=event_id), format="payload", source=source), subject)

    assert id_of("/shop", "1", "orders") == id_of("/shop", "1", "orders") == "%2Fshop/1/orders"
    different = {id_of("/shop", "1", "orders"), id_of("/shop", "1", "audit"), id_of("/bank", "1", "orders")}
    assert len(different | {id_of("a", "b/c", "d"), id_of("a/b", "c", "d")}) == 5


def test_the_module_imports_no_faststream() -> None:
    program = (
        "import sys, dynamodb_outbox.publishers; "
        "print([name for name in ('faststream', 'nats', 'redis', 'aio_pika', 'aiokafka') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
