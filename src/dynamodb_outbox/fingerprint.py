"""Fingerprints of the content of an emit, which can be compared after the caller changed the payload."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import date
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

Fingerprint: TypeAlias = "tuple[Any, ...]"
"""A value as its type and content, with its members in the same form: comparable, hashable, immutable."""

_UNCHANGEABLE: Final = frozenset({str, int, bool, bytes, NoneType})


def fingerprint_of(value: object) -> Fingerprint | None:
    """Take the fingerprint of a value. Two are equal if the values have the same types, and DynamoDB stores the same.

    The fingerprints of 1, 1.0 and True differ, and so do 0.0 and -0.0; the order of keys does not count. Returns None
    for a value that has no fingerprint, because it contains itself, or members whose types a payload may not have.
    """
    try:
        return _fingerprint(value)
    except Exception:
        return None


def _fingerprint(value: Any) -> Fingerprint:
    kind = type(value)
    return (kind, value if kind in _UNCHANGEABLE else _content(value))


def _content(value: Any) -> object:
    for kinds, content in _CONTENTS:
        if isinstance(value, kinds):
            return content(value)
    return tuple([_fingerprint(getattr(value, field.name)) for field in fields(value)])


def _members(value: Iterable[Any]) -> list[Fingerprint]:
    return [_fingerprint(member) for member in value]


def _items(value: Mapping[Any, Any]) -> frozenset[tuple[Fingerprint, Fingerprint]]:
    return frozenset([(_fingerprint(key), _fingerprint(member)) for key, member in value.items()])


_CONTENTS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], object]], ...]] = (
    (dict, _items),
    ((list, tuple), lambda value: tuple(_members(value))),
    # Enum comes before str and int, because members of a StrEnum are str as well.
    (Enum, lambda value: _fingerprint(value.value)),
    (str, str.__str__),
    (int, int),
    # As text, because NaN differs from itself and 0.0 equals -0.0.
    (float, float.__repr__),
    ((bytes, bytearray, memoryview), bytes),
    (date, lambda value: value.isoformat()),
    ((Decimal, UUID), str),
    ((set, frozenset), lambda value: frozenset(_members(value))),
    (Mapping, _items),
)
