"""Tells which library a class belongs to, without an import of the library."""

from __future__ import annotations

from typing import Any


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
