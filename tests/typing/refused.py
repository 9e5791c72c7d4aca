"""What a type checker must refuse; checked by mypy and pyright, never run.

A checker that accepts one of these lines reports an unused `type: ignore`, and fails.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from dynamodb_outbox import (
    Delivery,
    DynamoDBOutbox,
    Event,
    EventType,
    InMemoryOutbox,
    OutboxEventBus,
    Transaction,
    event_type,
)
from dynamodb_outbox.adapter import Claim, OutboxOptions


async def connect_takes_only_the_options_of_the_outbox() -> None:
    DynamoDBOutbox.connect(table_name="events", batch_sizes=25)  # type: ignore[call-arg]
    DynamoDBOutbox.connect(table_name="events", batch_size="25")  # type: ignore[arg-type]
    DynamoDBOutbox.connect(table_name="events", numbers="float")  # type: ignore[arg-type]
    DynamoDBOutbox.connect(table_name="events", conditional_writes="many")  # type: ignore[arg-type]
    DynamoDBOutbox.connect(table_name="events", profile_name=5)  # type: ignore[arg-type]
    DynamoDBOutbox.connect(table_name="events", fast_json="no")  # type: ignore[arg-type]
    DynamoDBOutbox.connect(region_name="eu-central-1")  # type: ignore[call-arg]
    async with DynamoDBOutbox.connect(
        table_name="events", profile_name="shop", fast_json=False, batch_size=25, numbers="decimal", retention=86_400
    ) as outbox:
        assert_type(outbox, DynamoDBOutbox)


def handlers_and_options() -> None:
    bus = OutboxEventBus(InMemoryOutbox(), stop_timeout=None)

    async def handler(event: Event, delivery: Delivery) -> None: ...

    def blocking(event: Event) -> None: ...

    bus.on("order.placed", handler, fatal=(ValueError,))  # type: ignore[call-overload]
    bus.on("order.placed", handler, no_retry_on=ValueError)  # type: ignore[call-overload]
    bus.on("order.placed", blocking)  # type: ignore[type-var]
    bus.on("order.placed", handler, no_retry_on=(ValueError,))
    assert_type(bus.event_types(), list[str])
    assert_type(bus.transaction(), Transaction)


def adapters() -> None:
    OutboxOptions(retries=3)  # type: ignore[call-arg]
    Claim(event=Event("order.placed"), token="a", attempt="1", lease_expires_at=0.0)  # type: ignore[arg-type]


@dataclass
class Placed:
    order: str


def handlers_of_other_classes(bus: OutboxEventBus) -> None:
    async def of_numbers(event: Event[int]) -> None: ...

    async def of_numbers_with_delivery(event: Event[int], delivery: Delivery) -> None: ...

    bus.on(Placed)(of_numbers)  # type: ignore[arg-type]
    bus.on(Placed, of_numbers)  # type: ignore[arg-type]
    bus.on(EventType("order.placed", Placed), of_numbers_with_delivery)  # type: ignore[arg-type]
    event_type("order.placed", version="2")  # type: ignore[arg-type]

    @bus.on(Placed)
    async def misspells(event: Event[Placed]) -> None:
        print(event.payload.oder)  # type: ignore[attr-defined]
