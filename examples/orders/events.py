"""The events of an order. Others read these names and fields: add fields freely, change one with a new version."""

from __future__ import annotations

from pydantic import BaseModel

from dynamodb_outbox import event_type


@event_type("order.placed")
class OrderPlaced(BaseModel):
    order: str
    customer: str
    cents: int


@event_type("order.paid")
class OrderPaid(BaseModel):
    order: str


@event_type("order.cancelled")
class OrderCancelled(BaseModel):
    order: str
