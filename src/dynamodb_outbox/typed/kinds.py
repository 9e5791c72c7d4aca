"""Tells what a class of payloads is, without an import of the library that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Final, get_origin

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.wording import shown


def is_pydantic(kind: Any) -> bool:
    """Tell whether a class is a pydantic model, or a dataclass of pydantic."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def is_struct(kind: Any) -> bool:
    """Tell whether a class is a msgspec Struct."""
    return isinstance(kind, type) and hasattr(kind, "__struct_fields__")


def is_attrs(kind: Any) -> bool:
    """Tell whether attrs made a class."""
    return isinstance(kind, type) and "__attrs_attrs__" in vars(kind)


def is_typed_dict(kind: Any) -> bool:
    """Tell whether a class is a TypedDict, of `typing` or of `typing_extensions`."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


_KINDS: Final = "a pydantic model, a dataclass, a msgspec Struct, an attrs class, a TypedDict or a dict"


def class_name(payload_class: Any) -> str:
    """Write a class for a message."""
    return getattr(payload_class, "__qualname__", str(payload_class)).replace("<locals>.", "")


def check_payload_class(payload_class: Any) -> None:
    """Raise `ConfigurationError` for a class whose instances cannot be stored."""
    is_known = is_pydantic(payload_class) or is_struct(payload_class) or is_attrs(payload_class)
    is_mapping = is_typed_dict(payload_class) or (get_origin(payload_class) or payload_class) in {dict, Mapping}
    if not (is_known or is_mapping or (isinstance(payload_class, type) and is_dataclass(payload_class))):
        hint = "; write @event_type(...) above @dataclass" if hasattr(payload_class, "__annotations__") else ""
        raise ConfigurationError(f"{shown(payload_class)} cannot be an event type: it must be {_KINDS}{hint}")


def is_payload_of(payload: object, payload_class: Any) -> bool:
    """Tell whether a payload is an instance of a class, or a mapping where the class is one."""
    kind = get_origin(payload_class) or payload_class
    return isinstance(payload, Mapping) if issubclass(kind, Mapping) else isinstance(payload, kind)
