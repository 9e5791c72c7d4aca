"""Conversion of Python values to DynamoDB attribute values and back.

boto3's serializer takes six times as long as `json.dumps`, refuses floats and returns `Decimal` for every number. This
module keeps the types that JSON has, and refuses a value before sending if DynamoDB would refuse or change it.

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from dynamodb_outbox.dynamodb.items.numbers import decimal_number, native_number, number_size, number_text
from dynamodb_outbox.dynamodb.items.unstorable import Unstorable
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.wording import shape, shown

AttributeValue = dict[str, Any]
"""A value of DynamoDB's low-level API, such as `{"S": "text"}`."""
_Encoded = tuple[AttributeValue, int]
_Encoders: TypeAlias = "dict[type, Callable[[Any, int, _Encoders], _Encoded]]"
"""The encoders by type. Each encoder gets the whole mapping, so that collections can encode their members."""

MAX_LEVELS: Final = 32
"""DynamoDB's limit for the nesting levels of an attribute; the innermost value counts as a level."""
COLLECTION_BYTES: Final = 3
"""The bytes of a list or a map, plus one for each member. A set has only the bytes of its members."""
MEMBER_BYTES: Final = 1


def encode(value: Any, level: int = 1, *, numbers: Numbers) -> tuple[AttributeValue, int]:
    """Encode a value; return it with its size in bytes as DynamoDB counts it. Raises `Unstorable`.

    With native `numbers` it also raises for a Decimal that would come back as another number, such as
    `Decimal("0.1234567890123456789")`. `level` is the nesting level of the value, 1 for an attribute of the item;
    lists and mappings check the level of their members.
    """
    return _encode(value, level, _ENCODERS[numbers])


def decode(value: AttributeValue, *, numbers: Numbers) -> Any:
    """Decode an attribute value. Raises `KeyError`, `ValueError` or `TypeError` if it is invalid."""
    ((kind, content),) = value.items()
    return _DECODERS[numbers][kind](content)


def text_size(text: str) -> int:
    """Count the bytes of a text. Raises `Unstorable` for lone surrogates, which UTF-8 cannot encode."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise Unstorable(f"it is not valid Unicode text: {error.reason} at position {error.start}") from error


def _encode(value: Any, level: int, encoders: _Encoders) -> _Encoded:
    encoder = encoders.get(type(value)) or _encoder_of(value, encoders)
    return encoder(value, level, encoders)


def _encode_text(value: str, level: int, encoders: _Encoders) -> _Encoded:
    return {"S": value}, text_size(value)


def _encode_bool(value: bool, level: int, encoders: _Encoders) -> _Encoded:  # noqa: FBT001 - it is the value
    return {"BOOL": value}, 1


def _encode_none(value: None, level: int, encoders: _Encoders) -> _Encoded:
    return {"NULL": True}, 1


def _encode_bytes(value: bytes | bytearray | memoryview, level: int, encoders: _Encoders) -> _Encoded:
    content = bytes(value)
    return {"B": content}, len(content)


def _encode_number(value: float | Decimal, level: int, encoders: _Encoders) -> _Encoded:
    text = number_text(value)
    return {"N": text}, number_size(text)


def _encode_native_decimal(value: Decimal, level: int, encoders: _Encoders) -> _Encoded:
    text = number_text(value)
    received = native_number(text)
    # Compare with the float's shortest form, not its binary value: Decimal("1.1") comes back as 1.1.
    if isinstance(received, float) and Decimal(repr(received)) != value:
        raise Unstorable(
            'no float equals this Decimal, and with numbers="native" it would come back as another number: use '
            'numbers="decimal", or store it as a string'
        )
    return {"N": text}, number_size(text)


def _encode_mapping(value: Mapping[Any, Any], level: int, encoders: _Encoders) -> _Encoded:
    _check_level(level + 1)
    members: dict[str, AttributeValue] = {}
    size = COLLECTION_BYTES + MEMBER_BYTES * len(value)
    for given, member in value.items():
        # A handler finds the same keys, whether the payload was read from DynamoDB or not.
        key = str.__str__(given) if type(given) is not str and isinstance(given, str) else given
        try:
            size += len(key) if type(key) is str and key and key.isascii() else _key_size(key)
            # Most members are plain texts. Encoding them here saves a call for each, a quarter of the total time.
            if type(member) is str and member.isascii():
                members[key] = {"S": member}
                size += len(member)
            else:
                encoder = encoders.get(type(member)) or _encoder_of(member, encoders)
                members[key], member_size = encoder(member, level + 1, encoders)
                size += member_size
        except Unstorable as error:
            error.steps.append(_step_to(key))
            raise
    return {"M": members}, size


def _step_to(key: object) -> str:
    name = shown(key) if isinstance(key, (str, int)) else shape(key)
    return f".{key}" if isinstance(key, str) and key.isidentifier() and len(key) < len(name) else f"[{name}]"


def _key_size(key: object) -> int:
    if not isinstance(key, str):
        raise Unstorable(f"a key must be a string, not {type(key).__name__}")
    if not key:
        raise Unstorable("a key must not be empty")
    return text_size(key)


def _encode_sequence(value: list[Any] | tuple[Any, ...], level: int, encoders: _Encoders) -> _Encoded:
    _check_level(level + 1)
    members: list[AttributeValue] = []
    size = COLLECTION_BYTES + MEMBER_BYTES * len(value)
    for index, member in enumerate(value):
        try:
            encoder = encoders.get(type(member)) or _encoder_of(member, encoders)
            encoded, member_size = encoder(member, level + 1, encoders)
        except Unstorable as error:
            error.steps.append(f"[{index}]")
            raise
        members.append(encoded)
        size += member_size
    return {"L": members}, size


def _encode_set(value: set[Any] | frozenset[Any], level: int, encoders: _Encoders) -> _Encoded:
    if not value:
        raise Unstorable("DynamoDB cannot store an empty set; use a list, or leave the set out")
    if all(isinstance(member, str) and not isinstance(member, Enum) for member in value):
        texts = sorted(value)
        return {"SS": texts}, sum(map(text_size, texts))
    if all(isinstance(member, (bytes, bytearray)) for member in value):
        blobs = sorted(value)
        return {"BS": blobs}, sum(map(len, blobs))
    if all(isinstance(member, (int, float, Decimal)) and not isinstance(member, (bool, Enum)) for member in value):
        numbers = sorted(_encode(member, level, encoders)[0]["N"] for member in value)
        if len({Decimal(number) for number in numbers}) < len(numbers):
            raise Unstorable("DynamoDB sees two members of the set as the same number; use a list")
        return {"NS": numbers}, sum(map(number_size, numbers))
    raise Unstorable("the members of a set must be all strings, all numbers or all bytes; use a list")


def _encode_dataclass(value: Any, level: int, encoders: _Encoders) -> _Encoded:
    return _encode_mapping(
        {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, level, encoders
    )


def _check_level(level: int) -> None:
    if level > MAX_LEVELS:
        raise Unstorable(f"it is nested deeper than DynamoDB's {MAX_LEVELS} levels")


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


def _encoder_of(value: Any, encoders: _Encoders) -> Callable[[Any, int, _Encoders], _Encoded]:
    for kind, encoder in _FALLBACKS:
        if isinstance(value, kind):
            return encoder
    if isinstance(value, Decimal):
        return encoders[Decimal]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass
    raise Unstorable(f"values of type {type(value).__qualname__} are not supported; {_SUPPORTED}")


def _encode_iso(value: date, level: int, encoders: _Encoders) -> _Encoded:
    return _encode_text(value.isoformat(), level, encoders)


def _encode_as_str(value: Any, level: int, encoders: _Encoders) -> _Encoded:
    return _encode_text(str.__str__(value) if isinstance(value, str) else str(value), level, encoders)


def _encode_enum(value: Enum, level: int, encoders: _Encoders) -> _Encoded:
    return _encode(value.value, level, encoders)


def _encode_int(value: int, level: int, encoders: _Encoders) -> _Encoded:
    return _encode_number(int(value), level, encoders)


_DECIMAL_ENCODERS: Final[_Encoders] = {
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
    datetime: _encode_iso,
    date: _encode_iso,
    UUID: _encode_as_str,
    set: _encode_set,
    frozenset: _encode_set,
    bytearray: _encode_bytes,
}
_ENCODERS: Final[dict[Numbers, _Encoders]] = {
    "native": {**_DECIMAL_ENCODERS, Decimal: _encode_native_decimal},
    "decimal": _DECIMAL_ENCODERS,
}

# Enum first: a StrEnum is also a str, but its value must be stored.
_FALLBACKS: Final[tuple[tuple[type, Callable[[Any, int, _Encoders], _Encoded]], ...]] = (
    (Enum, _encode_enum),
    (str, _encode_as_str),
    (int, _encode_int),
    (float, _encode_number),
    (Mapping, _encode_mapping),
    (list, _encode_sequence),
    (tuple, _encode_sequence),
    (bytes, _encode_bytes),
    (memoryview, _encode_bytes),
    (date, _encode_iso),
    (UUID, _encode_as_str),
    (set, _encode_set),
    (frozenset, _encode_set),
)


def _decoders_with(number: Callable[[str], Any]) -> dict[str, Callable[[Any], Any]]:
    decoders: dict[str, Callable[[Any], Any]] = {
        "S": _text,
        "N": number,
        "BOOL": bool,
        "NULL": lambda _: None,
        "M": lambda members: {key: decoders[k](v) for key, member in members.items() for k, v in member.items()},
        "L": lambda members: [decoders[k](v) for member in members for k, v in member.items()],
        "B": _bytes,
        "SS": set,
        "NS": lambda numbers: {number(text) for text in numbers},
        "BS": lambda blobs: {_bytes(blob) for blob in blobs},
    }
    return decoders


_DECODERS: Final[dict[Numbers, dict[str, Callable[[Any], Any]]]] = {
    "native": _decoders_with(native_number),
    "decimal": _decoders_with(decimal_number),
}
