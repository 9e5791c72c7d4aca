"""Typed events on every adapter: the types of an instance come back, and the stored payload is plain."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from dynamodb_outbox import Event, OutboxEventBus, event_type, upcast
from tests.contract.adapters import Adapter


class Currency(Enum):
    EUR = "eur"


class OfPydantic(pydantic.BaseModel):
    order: UUID
    at: datetime
    total: Decimal
    currency: Currency
    tags: set[str] = set()


class OfStruct(msgspec.Struct):
    order: UUID
    at: datetime
    total: Decimal
    currency: Currency
    tags: set[str] = set()


event_type("contract.pydantic", version=2)(OfPydantic)
event_type("contract.struct", version=2)(OfStruct)
for name in ("contract.pydantic", "contract.struct"):

    @upcast(name, from_version=1)
    def _add_currency(payload: dict[str, Any]) -> dict[str, Any]:
        return {**payload, "currency": "eur"}


ORDER = UUID("12345678-1234-1234-1234-123456789abc")
AT = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("kind", [OfPydantic, OfStruct])
@pytest.mark.parametrize(("numbers", "total"), [("native", "19.99"), ("decimal", "0.1234567890123456789")])
async def test_instances_come_back_however_the_event_came_to_the_handler(
    adapter: Adapter, kind: Any, numbers: str, total: str
) -> None:
    bus = OutboxEventBus(adapter.make(numbers=numbers))
    typed: dict[str, Any] = {}
    stored: dict[str, Any] = {}

    @bus.on(kind)
    async def read(event: Event[Any]) -> None:
        typed[event.id] = event.payload

    @bus.on_any
    async def publish(event: Event) -> None:
        stored[event.id] = event.payload

    instance = kind(order=ORDER, at=AT, total=Decimal(total), currency=Currency.EUR)
    await bus.emit(instance, id="polled")
    old = {"order": str(ORDER), "at": AT.isoformat(), "total": Decimal(total), "tags": []}
    await bus.emit(f"contract.{'pydantic' if kind is OfPydantic else 'struct'}", old, id="old")
    async with bus:
        await bus.emit(instance, id="claimed on emit")
        await bus.drain(30)
    assert typed == dict.fromkeys(["polled", "old", "claimed on emit"], instance)
    assert all(type(each.total) is Decimal for each in typed.values())
    assert stored["polled"]["tags"] == []
    assert "currency" not in stored["old"]
    assert stored["polled"]["currency"] == "eur"
    event = await bus.get_event("polled")
    assert event is not None
    assert event.payload == stored["polled"]
    assert event.metadata == {"schemaVersion": 2}
