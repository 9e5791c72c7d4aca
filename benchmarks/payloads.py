"""The events of the measurements, and their items."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from dynamodb_outbox import Event
from dynamodb_outbox.dynamodb.items.codec import encode_event

TYPE: Final = "order.placed"


def order() -> dict[str, Any]:
    """Make the payload of an order: 34 values, 0.5 KB as JSON."""
    return {
        "order": "o-20250614-000417",
        "customer": {"id": "c-88123", "name": "Ada Lovelace", "email": "ada@example.org", "vip": True},
        "lines": [
            {
                "sku": f"SKU-{number:05d}",
                "title": f"Difference engine, part {number}",
                "quantity": number,
                "price": 9.75,
            }
            for number in range(1, 5)
        ],
        "currency": "EUR",
        "total": 97.5,
        "coupon": None,
        "placed": "2025-06-14T09:30:00+00:00",
    }


def text(kilobytes: float) -> dict[str, Any]:
    """Make a payload of a given size, mostly one long text."""
    payload = {**order(), "note": ""}
    missing = round(kilobytes * 1024) - len(json.dumps(payload))
    if missing < 0:
        return {"note": "x" * round(kilobytes * 1024 - len('{"note": ""}'))}
    return {**payload, "note": "x" * missing}


def events(count: int, payload: dict[str, Any] | None = None) -> list[Event]:
    """Make new events."""
    content = order() if payload is None else payload
    return [Event(TYPE, content) for _ in range(count)]


def ordered_events(keys: int, *, of_key: int = 1) -> list[list[Event]]:
    """Make new events with ordering keys: a list of one event of each key, as often as each key has events."""
    names = [f"order-{number}" for number in range(keys)]
    return [[Event(TYPE, order(), ordering_key=name) for name in names] for _ in range(of_key)]


def prepared_items(waiting: Sequence[Event]) -> list[dict[str, Any]]:
    """Make the items of events with the codec of the library, without storing them."""
    now = time.time()
    return [encode_event(event, due_at=now, numbers="native")[0] for event in waiting]
