"""The JSON form of payloads, and CloudEvents as the `cloudevents` package reads them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox import Event
from dynamodb_outbox.publishers.cloudevents import CONTENT_TYPE, structured
from dynamodb_outbox.publishers.json_form import to_json


class Colour(Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    price: Decimal


@pytest.mark.cases(20)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"n": [1, 2.5, None, True, "ä"]}, '{"n":[1,2.5,null,true,"ä"]}'),
        ({"b": b"\x00\xff"}, '{"b":"AP8="}'),
        (Decimal("1.10"), "1.1"),
        (Decimal("5.0"), "5"),
        (Decimal("0.1234567890123456789"), '"0.1234567890123456789"'),
        (Decimal("12345678901234567890.5"), '"12345678901234567890.5"'),
        ({"s": {3, 1, 2}}, '{"s":[1,2,3]}'),
        (frozenset({"b", "a"}), '["a","b"]'),
        ({b"b", b"a"}, '["YQ==","Yg=="]'),
        ((1, 2), "[1,2]"),
        (10**30, "1" + "0" * 30),
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, '"red"'),
        (Line("A", Decimal("1.5")), '{"sku":"A","price":1.5}'),
        ("\x00\ufffe\uffff", r'"\u0000\ufffe\uffff"'),
    ],
)
def test_json_form(value: Any, text: str) -> None:
    assert to_json(value) == text


def test_a_value_that_no_event_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        to_json({"a": object()})


@given(st.text(st.characters(codec="utf-8")))
def test_text_survives_and_has_only_characters_that_sqs_takes(text: str) -> None:
    written = to_json(text)
    assert json.loads(written) == text
    assert all(ord(each) >= 0x20 and each not in "\ufffe\uffff" for each in written)


def read(event: Event, **options: Any) -> Any:
    """Read an event with the `cloudevents` package."""
    message = HTTPMessage({"content-type": CONTENT_TYPE}, structured(event, **options).encode())
    return from_structured_event(message)


def test_a_cloudevent_has_the_attributes_of_the_event() -> None:
    event = Event(
        "order.placed",
        {"order": "A-1", "photo": b"\x01"},
        id="event/1",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        ordering_key="A-1",
    )
    received = read(event, source="/shop")
    assert received.get_id() == "event/1"
    assert received.get_source() == "/shop"
    assert received.get_type() == "order.placed"
    assert received.get_specversion() == "1.0"
    assert received.get_time() == event.occurred_at
    assert received.get_datacontenttype() == "application/json"
    assert received.get_extension("partitionkey") == "A-1"
    assert received.get_data() == {"order": "A-1", "photo": base64.b64encode(b"\x01").decode()}


def test_metadata_become_extensions_where_their_names_and_values_may() -> None:
    metadata = {
        "correlationId": "c", "traceparent": "00-1-2-01", "schemaVersion": Decimal(2), "big": 2**40, "flag": True,
        "with-dash": "x", "dataSchema": "no", "subject": "no",
        "map": {"a": 1}, "data": "no", "Type": "no", "empty": "", "ratio": 0.5,
    }  # fmt: skip
    received = read(Event("a", None, metadata=metadata))
    extensions = {name: value for name, value in received.get_attributes().items() if name in map(str.lower, metadata)}
    assert extensions == {
        "correlationid": "c", "traceparent": "00-1-2-01", "schemaversion": 2, "big": str(2**40), "flag": True,
        "type": "a",
    }  # fmt: skip
