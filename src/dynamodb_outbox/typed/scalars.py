"""Reads stored values as the types that have no members: numbers, texts, times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from types import NoneType
from typing import Any, Final
from uuid import UUID

from dynamodb_outbox.typed.mismatch import Mismatch
from dynamodb_outbox.wording import shape


def _as_it_is(value: Any) -> Any:
    return value


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is kind or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        raise Mismatch(f"it must be {kind.__name__}, not {shape(value)}")

    return read


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _float(value: Any) -> float:
    if not _is_number(value):
        raise Mismatch(f"it must be float, not {shape(value)}")
    return float(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, float):
        return Decimal(repr(value))  # the shortest form is the Decimal that was stored
    if not _is_number(value) and not isinstance(value, str):
        raise Mismatch(f"it must be Decimal, not {shape(value)}")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise Mismatch("it must be the text of a Decimal") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Mismatch(f"it must be bytes, not {shape(value)}")
    return bytes(value)


def _parsed(kind: type, parse: Callable[[str], Any], form: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is kind:
            return value
        if not isinstance(value, str):
            raise Mismatch(f"it must be {kind.__name__}, not {shape(value)}")
        try:
            return parse(value)
        except ValueError:
            raise Mismatch(f"it must be {kind.__name__} in the form {form}") from None

    return read


SCALARS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    Any: _as_it_is,
    object: _as_it_is,
    None: _exactly(NoneType),
    NoneType: _exactly(NoneType),
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    float: _float,
    Decimal: _decimal,
    bytes: _bytes,
    datetime: _parsed(datetime, datetime.fromisoformat, "2026-11-30T12:00:00+00:00"),
    date: _parsed(date, date.fromisoformat, "2026-11-30"),
    UUID: _parsed(UUID, UUID, "12345678-1234-1234-1234-123456789abc"),
}
"""The readers of these types. A number is stored as int if it is whole, whatever it was."""
