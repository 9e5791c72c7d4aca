"""Payloads as JSON that loses nothing: what JSON has no type for is written as an object with one key.

    {"$decimal": "1.10"}   {"$bytes": "aGVsbG8="}   {"$set": [1, 2]}

A dict whose only key is such a word gets one more `$`: `{"$$set": ...}`. Whole numbers have all their digits.

An outbox with `numbers="decimal"` has no floats: then `decimals=True` writes a decimal as a JSON number where a float
has exactly its digits, and reads each JSON number as a decimal.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_MARK: Final = re.compile(r"\$+(decimal|bytes|set)")


def to_json(value: Any, *, indent: int | None = None, decimals: bool = False) -> str:
    """Write a value as JSON. Values of other types, which no stored event has, are written as their `repr`."""
    return json.dumps(to_plain(value, decimals=decimals), indent=indent, ensure_ascii=False, allow_nan=True)


def to_plain(value: Any, *, decimals: bool = False) -> Any:
    """Replace values that JSON has no type for."""
    if isinstance(value, Mapping):
        plain = {str(key): to_plain(item, decimals=decimals) for key, item in value.items()}
        return {f"${key}" if _is_mark(plain) else key: item for key, item in plain.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, decimals=decimals) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"$set": [to_plain(item, decimals=decimals) for item in sorted(value)]}
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _marked(value, decimals=decimals)


def _marked(value: Any, *, decimals: bool) -> Any:
    if isinstance(value, Decimal):
        near = float(value)
        return near if decimals and Decimal(repr(near)) == value else {"$decimal": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    return repr(value)


def from_json(text: str, *, decimals: bool = False) -> Any:
    """Read a value that `to_json` wrote. Raises `ValueError`, whose text says what is wrong and where."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=Decimal if decimals else float,
        )
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> Any:
    value = dict(pairs)
    if len(value) != len(pairs):
        repeated = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {repeated!r} is there twice in one object")
    if not _is_mark(value):
        return value
    ((mark, inner),) = value.items()
    if mark.startswith("$$"):
        return {mark[1:]: inner}
    try:
        return _READERS[mark](inner)
    except (InvalidOperation, binascii.Error, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the value of {mark!r} cannot be read: {error or type(error).__name__}") from error


def _is_mark(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and _MARK.fullmatch(next(iter(value))) is not None


def _decimal(inner: Any) -> Decimal:
    if not isinstance(inner, str):
        raise TypeError('it must be a string, such as "1.10"')
    return Decimal(inner)


def _set(inner: Any) -> set[Any]:
    if not isinstance(inner, list):
        raise TypeError("it must be a list")
    return set(inner)


def _bytes(inner: Any) -> bytes:
    return base64.b64decode(inner.encode("ascii"), validate=True)


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {"$decimal": _decimal, "$bytes": _bytes, "$set": _set}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} cannot be stored")
