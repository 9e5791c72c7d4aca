"""The API as users write it; checked by mypy and pyright, never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict, assert_type

from pydantic import BaseModel
from starlette.routing import Route

from dynamodb_outbox import (
    CallNext,
    Delivery,
    DynamoDBOutbox,
    Event,
    EventType,
    FailedEvent,
    HandlerError,
    HealthOptions,
    HealthStatus,
    InMemoryOutbox,
    OutboxError,
    OutboxEventBus,
    Reject,
    Repaired,
    RetryLater,
    event_type,
    upcast,
)
from dynamodb_outbox.adapter import Outbox
from dynamodb_outbox.integrations.fastapi import health_routes
from dynamodb_outbox.publishers import FastStreamPublisher, SqsPublisher


async def with_any_client(client: Any) -> None:
    async def report(error: OutboxError) -> None:
        if isinstance(error, HandlerError):
            assert_type(error.event, Event)
        print(error)

    outbox = DynamoDBOutbox(client, table_name="events", on_error=report, retention=86_400)
    await outbox.create_table(wait=False, projection="KEYS_ONLY")
    port: Outbox = outbox
    bus = OutboxEventBus(port, on_error=print)

    @bus.on("user.created")
    async def greet(event: Event) -> None:
        assert_type(event.payload, Any)

    @bus.on("user.created", name="audit")
    async def audit(event: Event, delivery: Delivery) -> None:
        assert_type(delivery.attempt, int)
        assert_type(await delivery.emit("audited"), Event | None)
        if delivery.attempt == delivery.max_attempts:
            raise Reject("enough")
        raise RetryLater(5)

    bus.on("user.deleted", greet)
    bus.once("user.deleted", audit, name="first")
    bus.subscribe(["a", "b"], greet)

    async def trace(event: Event, call_next: CallNext) -> None:
        if not call_next.in_transaction:
            assert_type(await call_next(event), None)

    bus.add_emit_middleware(trace)
    bus.add_handler_middleware(trace, trace)
    async with bus:
        assert_type(await bus.emit("user.created", {"email": "a"}, delay=1.5), Event | None)
        assert_type(await bus.emit_many([Event("t", 1), Event("t", None)]), list[Event])
        assert_type(await bus.wait_for("t"), Event)
        await bus.drain(timeout=5)
    assert_type(await bus.get_failed_events(type="t", limit=5), list[FailedEvent])
    assert_type(await bus.retry_events(["a"]), Repaired)
    assert_type(await bus.run_once(), int)
    assert_type(bus.health().status, HealthStatus)
    assert_type([check.since for check in bus.health().checks], list[datetime | None])
    assert_type(health_routes(bus), list[Route])
    assert_type(health_routes(lambda request: request.app.state.bus, details=True), list[Route])


async def with_a_client_of_its_own() -> None:
    async with DynamoDBOutbox.connect(table_name="events", region_name="eu-central-1", batch_size=25) as outbox:
        assert_type(outbox, DynamoDBOutbox)
        OutboxEventBus(outbox, on_max_handlers=lambda bus, type, count: print(bus, type, count))
    OutboxEventBus(InMemoryOutbox(poll_interval=0.01), health=HealthOptions(sample_interval=None))


@event_type("order.placed", version=2)
class OrderPlaced(BaseModel):
    order: str
    total: Decimal


@upcast("order.placed", from_version=1)
def add_total(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "total": 0}


@event_type("order.paid")
@dataclass
class OrderPaid:
    order: str


class Shipment(TypedDict):
    order: str


shipped = EventType("order.shipped", Shipment)
anything = EventType("order.changed", dict[str, Any])


async def with_typed_events(bus: OutboxEventBus) -> None:
    @bus.on(OrderPlaced)
    async def bill(event: Event[OrderPlaced]) -> None:
        assert_type(event, Event[OrderPlaced])
        assert_type(event.payload.order, str)
        assert_type(event.payload.total, Decimal)

    @bus.on(OrderPaid, max_retries=3)
    async def ship(event: Event[OrderPaid], delivery: Delivery) -> None:
        assert_type(event.payload.order, str)
        await delivery.emit(OrderPaid(event.payload.order))
        async with delivery.transaction() as tx:
            assert_type(tx.emit(OrderPaid("a")), Event)

    @bus.on(shipped)
    async def track(event: Event[Shipment]) -> None:
        assert_type(event.payload["order"], str)

    @bus.on(anything)
    async def log(event: Event[dict[str, Any]]) -> None:
        assert_type(event.payload, dict[str, Any])

    @bus.on_any
    async def publish(event: Event) -> None:
        assert_type(event.payload, Any)

    @bus.on_any(name="audit")
    async def audit(event: Event, delivery: Delivery) -> None: ...

    bus.on(OrderPlaced, bill)
    bus.on("order.placed", bill)
    bus.on(shipped, track, name="again")
    bus.once(OrderPaid, ship)
    bus.subscribe([OrderPlaced, "order.cancelled", shipped], publish)
    bus.off(OrderPlaced, bill)
    assert_type(await bus.emit(OrderPlaced(order="a", total=Decimal(1))), Event | None)
    await bus.emit(shipped, {"order": "a"})
    await bus.emit_many([OrderPaid("a"), Event("order.cancelled")])
    assert_type(await bus.wait_for(OrderPaid), Event[OrderPaid])
    assert_type((await bus.wait_for(shipped)).payload, Shipment)
    assert_type(await bus.wait_for("order.paid"), Event)
    assert_type(Event("order.paid", OrderPaid("a")).payload, OrderPaid)
    await bill(Event[OrderPlaced]("order.placed", OrderPlaced(order="a", total=Decimal(1))))


async def with_a_publisher(bus: OutboxEventBus) -> None:
    async with SqsPublisher(queue_url="https://sqs/orders", group=lambda event: event.ordering_key) as publisher:
        await publisher.verify()
        bus.subscribe(["order.placed"], publisher, name="to-sqs")
        assert_type(bus.on("order.paid", publisher), SqsPublisher)


def with_a_broker(bus: OutboxEventBus, broker: Any) -> None:
    publisher = FastStreamPublisher(broker, destination=lambda event: event.type, stream="ORDERS", timeout=10)
    assert_type(bus.on("order.placed", publisher), FastStreamPublisher)
    FastStreamPublisher(broker, destination="orders", redis_type="list")
