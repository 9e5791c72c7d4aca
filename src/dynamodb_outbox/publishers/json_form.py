"""Payloads as plain JSON, for receivers that are not written in Python.

Bytes become base64 text, a `Decimal` a number if a float has exactly its digits and text otherwise, a set a sorted
list, a datetime and a date ISO 8601 text, a UUID text, an Enum its value, and a dataclass an object.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

_NOT_IN_MESSAGES: Final = {"\ufffe": "\\ufffe", "\uffff": "\\uffff"}
"""Two characters that SQS and SNS refuse, and their escapes. JSON escapes the control characters by itself."""


def to_json(value: Any) -> str:
    """Write a value as JSON without spaces, in UTF-8 characters. Raises `TypeError` for what no event can hold."""
    text = _ENCODER.encode(value)
    for character, escape in _NOT_IN_MESSAGES.items():
        # Such a character can only be inside a string, where the escape means the same.
        text = text.replace(character, escape)
    return text


def plain(value: Any) -> Any:
    """Replace a value that JSON has no type for; its members are replaced after it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


def _plain_decimal(value: Decimal) -> float | int | str:
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


# The encoder visits the values in C, and asks for the few that it does not know.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
