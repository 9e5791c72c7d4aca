"""Turns instances into the plain values that are stored: dicts, lists, and values that the codec stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from dynamodb_outbox.typed.kinds import is_attrs, is_pydantic, is_struct

_STORED_AS_THEY_ARE: Final = (str, int, float, bytes, Decimal, date, UUID, type(None))


def to_plain(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Turn a value and its members into plain values. Raises any exception of pydantic or msgspec.

    A set becomes a list, because DynamoDB stores neither an empty set nor a mixed one.
    """
    kind = type(value)
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, _STORED_AS_THEY_ARE):
        return value
    if is_pydantic(kind):
        return _of_pydantic(kind, value)
    if is_struct(kind):
        return _of_struct(value)
    if is_attrs(kind):
        return {each.name: to_plain(getattr(value, each.name)) for each in kind.__attrs_attrs__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key.value if isinstance(key, Enum) else key: to_plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(member) for member in value]
    if isinstance(value, (set, frozenset)):
        return _listed([to_plain(member) for member in value])
    return value


def _listed(members: list[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        return members


def _of_pydantic(kind: Any, value: Any) -> Any:
    plain = kind.__pydantic_serializer__.to_python(value, mode="python", round_trip=True, warnings="error")
    # Not mode="json", which fails for bytes that are not UTF-8.
    return _json_leaves(to_plain(plain))


def _json_leaves(value: Any) -> Any:
    """Write the types of pydantic that no item can hold in their JSON form, such as an URL or a timedelta."""
    if isinstance(value, dict):
        return {key: _json_leaves(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_json_leaves(member) for member in value]
    if isinstance(value, _STORED_AS_THEY_ARE) or hasattr(value, "get_secret_value"):
        return value  # a secret is refused by the codec: its JSON form would be a row of asterisks
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - optional

    return to_jsonable_python(value)


def _of_struct(value: Any) -> Any:
    from msgspec import to_builtins  # noqa: PLC0415 - optional

    return to_plain(to_builtins(value, builtin_types=(bytes, Decimal), enc_hook=to_plain))
