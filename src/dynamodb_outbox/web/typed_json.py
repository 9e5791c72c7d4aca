"""Payloads as JSON that loses nothing: what JSON has no type for is written as an object with one key.

    {"$decimal": "1.10"}   {"$bytes": "aGVsbG8="}   {"$set": [1, 2]}   {"$object": {"$set": "a dict with such a key"}}

Whole numbers have all their digits.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

_MARKS: Final = frozenset({"$decimal", "$bytes", "$set", "$object"})


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write a value as JSON. Values of other types, which no stored event has, are written as their `repr`."""
    return json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=True)


def to_plain(value: Any) -> Any:
    """Replace values that JSON has no type for."""
    if isinstance(value, Mapping):
        plain = {str(key): to_plain(item) for key, item in value.items()}
        return {"$object": plain} if len(plain) == 1 and not _MARKS.isdisjoint(plain) else plain
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _marked(value)


def _marked(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return {"$set": [to_plain(item) for item in sorted(value)]}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    return repr(value)


def from_json(text: str) -> Any:
    """Read a value that `to_json` wrote. Raises `ValueError`, whose text says what is wrong and where."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    if len(value) != len(pairs):
        repeated = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {repeated!r} is there twice in one object")
    if len(value) != 1 or _MARKS.isdisjoint(value):
        return value
    ((mark, inner),) = value.items()
    return _Marked(mark, inner).value


class _Marked:
    """An object with one key that names a type."""

    def __init__(self, mark: str, inner: Any) -> None:
        try:
            self.value = {
                "$decimal": _decimal,
                "$bytes": _bytes,
                "$set": _set,
                "$object": _unmarked,
            }[mark](inner)
        except (InvalidOperation, binascii.Error, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the value of {mark!r} cannot be read: {error or type(error).__name__}") from error


def _decimal(inner: Any) -> Decimal:
    if not isinstance(inner, str):
        raise TypeError('it must be a string, such as "1.10"')
    return Decimal(inner)


def _set(inner: Any) -> set[Any]:
    if not isinstance(inner, list):
        raise TypeError("it must be a list")
    return set(cast("list[Any]", inner))


def _bytes(inner: Any) -> bytes:
    return base64.b64decode(inner.encode("ascii"), validate=True)


def _unmarked(inner: Any) -> Any:
    return inner


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} cannot be stored")
