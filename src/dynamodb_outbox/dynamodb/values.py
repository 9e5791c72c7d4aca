"""Python values to DynamoDB attribute values and back.

boto3's serializer is slow (six times `json.dumps`), refuses floats and returns `Decimal` for every number;
this one keeps what JSON keeps, and refuses before sending what the engine would refuse or change.

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

AttributeValue = dict[str, Any]
"""A value as the low-level API takes it, such as `{"S": "text"}`."""

MAX_LEVELS: Final = 32
"""Nesting levels of an item's attribute; the innermost value counts as one."""
MAX_DIGITS: Final = 38
_BEYOND_DIGITS: Final = 10**MAX_DIGITS
MAX_EXPONENT: Final = 125
MIN_EXPONENT: Final = -130
COLLECTION_BYTES: Final = 3
"""The bytes of a list or a map; each of its members takes one more. A set has none of its own."""
MEMBER_BYTES: Final = 1
_SMALLEST: Final = 1e-130
_BEYOND_LARGEST: Final = 1e126


class Unstorable(Exception):  # noqa: N818 - internal: becomes UnstorableValueError once the path is whole
    """A value was refused; `steps` grows into its path while the exception rises."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.steps: list[str] = []
        super().__init__(reason)

    def path(self, root: str) -> str:
        """Write the way from `root` to the value."""
        return root + "".join(reversed(self.steps))


def encode(value: Any, level: int = 1) -> tuple[AttributeValue, int]:
    """Encode a value; return it with its size in bytes as DynamoDB counts it. Raises `Unstorable`.

    `level` is the nesting level the value stands on, 1 for an attribute of the item. Lists and mappings check that
    their members may stand below them.
    """
    encoder = _ENCODERS.get(type(value)) or _encoder_of(value)
    return encoder(value, level)


def decode(value: AttributeValue) -> Any:
    """Decode an attribute value. Raises `KeyError`, `ValueError` or `TypeError` where it is none."""
    ((kind, content),) = value.items()
    return _DECODERS[kind](content)


def text_size(text: str) -> int:
    """Count the bytes of a text. Raises `Unstorable` for lone surrogates, which no UTF-8 can hold."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Unstorable(f"it is no valid Unicode text: {error.reason} at position {error.start}") from error


def _encode_text(value: str, level: int) -> tuple[AttributeValue, int]:
    return {"S": value}, text_size(value)


def _encode_bool(value: bool, level: int) -> tuple[AttributeValue, int]:  # noqa: FBT001 - it is the value
    return {"BOOL": value}, 1


def _encode_none(value: None, level: int) -> tuple[AttributeValue, int]:
    return {"NULL": True}, 1


def _encode_bytes(value: bytes | bytearray | memoryview, level: int) -> tuple[AttributeValue, int]:
    content = bytes(value)
    return {"B": content}, len(content)


def _encode_number(value: float | Decimal, level: int) -> tuple[AttributeValue, int]:
    text = number_text(value)
    return {"N": text}, number_size(text)


def _encode_mapping(value: Mapping[Any, Any], level: int) -> tuple[AttributeValue, int]:
    _check_level(level + 1)
    members: dict[str, AttributeValue] = {}
    size = COLLECTION_BYTES + MEMBER_BYTES * len(value)
    for key, member in value.items():
        try:
            size += len(key) if type(key) is str and key and key.isascii() else _key_size(key)
            # Most members are plain texts. Encoding them here, and not by a call, takes a quarter off the whole.
            if type(member) is str and member.isascii():
                members[key] = {"S": member}
                size += len(member)
            else:
                encoder = _ENCODERS.get(type(member)) or _encoder_of(member)
                members[key], member_size = encoder(member, level + 1)
                size += member_size
        except Unstorable as error:
            error.steps.append(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]")
            raise
    return {"M": members}, size


def _key_size(key: object) -> int:
    if not isinstance(key, str):
        raise Unstorable(f"a key must be a string, not {type(key).__name__}")
    if not key:
        raise Unstorable("a key must not be empty")
    return text_size(key)


def _encode_sequence(value: list[Any] | tuple[Any, ...], level: int) -> tuple[AttributeValue, int]:
    _check_level(level + 1)
    members: list[AttributeValue] = []
    size = COLLECTION_BYTES + MEMBER_BYTES * len(value)
    for index, member in enumerate(value):
        try:
            encoder = _ENCODERS.get(type(member)) or _encoder_of(member)
            encoded, member_size = encoder(member, level + 1)
        except Unstorable as error:
            error.steps.append(f"[{index}]")
            raise
        members.append(encoded)
        size += member_size
    return {"L": members}, size


def _encode_set(value: set[Any] | frozenset[Any], level: int) -> tuple[AttributeValue, int]:
    if not value:
        raise Unstorable("DynamoDB has no empty set; use a list, or leave it out")
    if all(isinstance(member, str) and not isinstance(member, Enum) for member in value):
        texts = sorted(value)
        return {"SS": texts}, sum(map(text_size, texts))
    if all(isinstance(member, (bytes, bytearray)) for member in value):
        blobs = sorted(value)
        return {"BS": blobs}, sum(map(len, blobs))
    if all(isinstance(member, (int, float, Decimal)) and not isinstance(member, (bool, Enum)) for member in value):
        numbers = sorted(number_text(member) for member in value)
        if len({Decimal(number) for number in numbers}) < len(numbers):
            raise Unstorable("two members of the set are the same number to DynamoDB")
        return {"NS": numbers}, sum(map(number_size, numbers))
    raise Unstorable("the members of a set must be all strings, all numbers or all bytes; use a list")


def _encode_dataclass(value: Any, level: int) -> tuple[AttributeValue, int]:
    return _encode_mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, level)


def _check_level(level: int) -> None:
    if level > MAX_LEVELS:
        raise Unstorable(f"it is nested deeper than DynamoDB's {MAX_LEVELS} levels")


def number_text(value: float | Decimal) -> str:
    """Write a number as DynamoDB takes it. Raises `Unstorable` beyond its digits and exponents."""
    if isinstance(value, int):
        if not -_BEYOND_DIGITS < value < _BEYOND_DIGITS:
            raise Unstorable(f"an integer may have {MAX_DIGITS} digits at most")
        return str(value)
    if isinstance(value, float) and _SMALLEST <= abs(value) < _BEYOND_LARGEST:
        # The shortest decimal form reads back as the same float; but a whole number comes back as an int,
        # which is equal only if all its digits were kept.
        return str(int(value)) if value.is_integer() and abs(value) < _BEYOND_DIGITS else float.__repr__(value)
    exact = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise Unstorable(f"DynamoDB has no number {value}")
    if not exact:
        return "0"
    if not MIN_EXPONENT <= exact.adjusted() <= MAX_EXPONENT:
        raise Unstorable(f"the magnitude of a number must be from 1e{MIN_EXPONENT} to 9.99e{MAX_EXPONENT}")
    sign, digits, exponent = exact.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    if len(significant) > MAX_DIGITS:
        raise Unstorable(f"a number may have {MAX_DIGITS} significant digits, this one has {len(significant)}")
    return f"{'-' if sign else ''}{significant}E{int(exponent) + len(digits) - len(significant)}"


def number_size(text: str) -> int:
    """Count the bytes of a number: one for two significant digits, one for the exponent, one for a negative sign.

    Rather a byte too many than one too few: the engine pairs digits from the decimal point, 12 and 0.12 are one pair,
    1.2 and 0.012 are two.
    """
    return len(text.strip("-0.")) // 2 + 2 + text.startswith("-")


def _number(text: str) -> int | float | Decimal:
    if len(text) <= MAX_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    # Most floats come back as they were written; Decimal, which takes ten times as long, is for all others.
    if "." in text and repr(number := float(text)) == text and not number.is_integer():
        return number
    try:
        exact = Decimal(text)
        nearest = float(exact)
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is no number") from error
    if not exact.is_finite():
        raise ValueError(f"{text!r} is no number of DynamoDB")
    whole = exact == exact.to_integral_value()
    if whole and abs(exact) < _BEYOND_DIGITS:
        return int(exact)
    if Decimal(repr(nearest)) == exact:
        return nearest
    return int(exact) if whole else exact


def _bytes(content: Any) -> bytes:
    if not isinstance(content, (bytes, bytearray)):
        raise TypeError("a binary value must be bytes")
    return bytes(content)


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError("a text value must be a string")
    return content


_SUPPORTED: Final = (
    "use str, int, float, bool, None, bytes, Decimal, dict, list, tuple, set, datetime, date, UUID, Enum or a "
    "dataclass, or convert it first (a pydantic model with model_dump(mode='json'))"
)


def _encoder_of(value: Any) -> Callable[[Any, int], tuple[AttributeValue, int]]:
    for kind, encoder in _FALLBACKS:
        if isinstance(value, kind):
            return encoder
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass
    raise Unstorable(f"values of type {type(value).__qualname__} are not supported; {_SUPPORTED}")


_ENCODERS: Final[dict[type, Callable[[Any, int], tuple[AttributeValue, int]]]] = {
    str: _encode_text,
    int: _encode_number,
    float: _encode_number,
    bool: _encode_bool,
    type(None): _encode_none,
    dict: _encode_mapping,
    list: _encode_sequence,
    tuple: _encode_sequence,
    bytes: _encode_bytes,
    Decimal: _encode_number,
    datetime: lambda value, level: _encode_text(value.isoformat(), level),
    date: lambda value, level: _encode_text(value.isoformat(), level),
    UUID: lambda value, level: _encode_text(str(value), level),
    set: _encode_set,
    frozenset: _encode_set,
    bytearray: _encode_bytes,
}

# Enum first: a StrEnum is a str as well, and its value is what is meant.
_FALLBACKS: Final[tuple[tuple[type, Callable[[Any, int], tuple[AttributeValue, int]]], ...]] = (
    (Enum, lambda value, level: encode(value.value, level)),
    (str, lambda value, level: _encode_text(str.__str__(value), level)),
    (int, lambda value, level: _encode_number(int(value), level)),
    (float, _encode_number),
    (Mapping, _encode_mapping),
    (list, _encode_sequence),
    (tuple, _encode_sequence),
    (bytes, _encode_bytes),
    (memoryview, _encode_bytes),
    (Decimal, _encode_number),
    (date, lambda value, level: _encode_text(value.isoformat(), level)),
    (UUID, lambda value, level: _encode_text(str(value), level)),
    (set, _encode_set),
    (frozenset, _encode_set),
)

_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "S": _text,
    "N": _number,
    "BOOL": bool,
    "NULL": lambda _: None,
    "M": lambda members: {key: _DECODERS[k](v) for key, member in members.items() for k, v in member.items()},
    "L": lambda members: [_DECODERS[k](v) for member in members for k, v in member.items()],
    "B": _bytes,
    "SS": set,
    "NS": lambda numbers: {_number(number) for number in numbers},
    "BS": lambda blobs: {_bytes(blob) for blob in blobs},
}
