"""`SqsPublisher` as a handler of a bus: an event is completed, retried or set aside by what SQS says of it."""

from __future__ import annotations

import gc
import json
import os
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientSession
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from dynamodb_outbox import (
    Event,
    ExponentialBackoff,
    InMemoryOutbox,
    OutboxError,
    OutboxEventBus,
    TargetError,
    event_type,
)
from dynamodb_outbox.integrations.opentelemetry import instrument
from dynamodb_outbox.publishers import SqsPublisher
from reliability.proxy import Proxy
from tests.publishers.queues import FailingTarget, Queue

EVENTS = int(os.environ.get("PUBLISHED_EVENTS", "100"))


def a_bus(publisher: SqsPublisher, errors: list[OutboxError]) -> OutboxEventBus:
    outbox = InMemoryOutbox(poll_interval=0.01, base_backoff=0.01, batch_size=100, concurrency=100)
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("order.placed", publisher, max_retries=100, backoff=ExponentialBackoff(base=0.01))
    return bus


@pytest.mark.timeout(900)
async def test_every_event_arrives_through_a_failing_target(
    publisher: SqsPublisher, queue: Queue, sqs: Any, sqs_proxy: Proxy
) -> None:
    target = FailingTarget(sqs)
    sqs_proxy.rule = target
    errors: list[OutboxError] = []
    bus = a_bus(publisher, errors)
    emitted: list[Event] = []
    received: list[str] = []
    async with bus:
        # The more messages wait in a queue, the longer moto takes for each request.
        for first in range(0, EVENTS, 100):
            events = [Event("order.placed", {"n": n}) for n in range(first, min(first + 100, EVENTS))]
            emitted += await bus.emit_many(events)
            await bus.drain(60)
            received += await queue.received_ids()
    assert await bus.get_failed_events() == []
    assert set(received) == {event.id for event in emitted}
    assert target.throttled > 0
    assert target.cut > 0
    # A failed entry is retried alone: only an event whose reply was cut may arrive twice.
    assert target.failed.total() > EVENTS / 50
    assert set(target.accepted.values()) == {1}
    assert len(received) - len(emitted) <= 10 * target.cut
    # Nothing is completed that did not arrive: the events that failed were reported, each as often as it failed.
    reported = [error for error in errors if isinstance(error.__cause__, TargetError)]
    assert sum(error.__cause__.code == "InternalError" for error in reported) == target.failed.total()


async def test_an_event_that_sqs_never_takes_becomes_a_dead_letter_that_says_why(
    publisher: SqsPublisher, queue: Queue
) -> None:
    errors: list[OutboxError] = []
    bus = a_bus(publisher, errors)
    async with bus:
        good = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(9)])
        bad = await bus.emit("order.placed", "\x01" * 390_000)
        await bus.drain(30)
    (failed,) = await bus.get_failed_events()
    assert bad is not None
    assert failed.id == bad.id
    assert "takes 1,048,576 at most" in failed.last_error
    assert failed.retry_count == 0
    assert sorted(await queue.received_ids()) == sorted(event.id for event in good)


def open_sessions() -> set[ClientSession]:
    return {each for each in gc.get_objects() if isinstance(each, ClientSession) and not each.closed}


async def test_a_client_that_the_publisher_made_is_closed_when_the_bus_has_stopped(
    queue: Queue, moto_endpoint: str
) -> None:
    # As in the documentation: only the bus has this publisher.
    bus = a_bus(SqsPublisher(queue_url=queue.url, region_name="us-east-1", endpoint_url=moto_endpoint), [])
    before = open_sessions()
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(30)
        assert len(open_sessions() - before) == 1
    assert open_sessions() == before
    assert len(await queue.receive_all()) == 1


@event_type("published.by-class")
class Published(BaseModel):
    total: Decimal


async def test_a_publisher_of_a_class_sends_the_stored_payload(publisher: SqsPublisher, queue: Queue) -> None:
    bus = a_bus(publisher, [])
    bus.on(Published, publisher)
    async with bus:
        await bus.emit(Published(total=Decimal("1.10")))
        # Of a version that this process does not know: receivers may.
        await bus.emit("published.by-class", {"sum": 5}, metadata={"schemaVersion": 7})
        await bus.drain(30)
    assert await bus.get_failed_events() == []
    sent = [json.loads(message["Body"])["data"] for message in await queue.receive_all()]
    assert sorted(sent, key=str) == [{"sum": 5}, {"total": 1.1}]


async def test_the_receiver_gets_the_trace_of_the_emit(publisher: SqsPublisher, queue: Queue) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    bus = a_bus(publisher, [])
    instrument(bus, tracer_provider=provider)
    async with bus:
        await bus.emit("order.placed")
        await bus.drain(30)
    (emitted,) = [span.context for span in exporter.get_finished_spans() if span.name == "emit order.placed"]
    assert emitted is not None
    (message,) = await queue.receive_all()
    traceparent = f"00-{emitted.trace_id:032x}-{emitted.span_id:016x}-"  # and flags
    assert message["MessageAttributes"]["traceparent"]["StringValue"].startswith(traceparent)
    assert json.loads(message["Body"])["traceparent"].startswith(traceparent)
