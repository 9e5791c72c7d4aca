"""Turns stored payloads into instances of a class.

pydantic and msgspec are optional. They are imported when a class of theirs is used, which has imported them already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, get_origin

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.typed.fields import Mismatch, reader_of
from dynamodb_outbox.typed.kinds import is_attrs, is_pydantic, is_struct, is_typed_dict
from dynamodb_outbox.wording import describe, shown

_KINDS: Final = "a pydantic model, a dataclass, a msgspec Struct, an attrs class, a TypedDict or a dict"


def class_name(payload_class: Any) -> str:
    """Write a class for a message."""
    return getattr(payload_class, "__qualname__", str(payload_class)).replace("<locals>.", "")


def check_payload_class(payload_class: Any) -> None:
    """Raise `ConfigurationError` for a class whose instances cannot be stored."""
    is_known = is_pydantic(payload_class) or is_struct(payload_class) or is_attrs(payload_class)
    is_mapping = is_typed_dict(payload_class) or (get_origin(payload_class) or payload_class) in {dict, Mapping}
    is_dataclass = isinstance(payload_class, type) and dataclasses.is_dataclass(payload_class)
    if not (is_known or is_mapping or is_dataclass):
        hint = "; write @event_type(...) above @dataclass" if hasattr(payload_class, "__annotations__") else ""
        raise ConfigurationError(f"{shown(payload_class)} cannot be an event type: it must be {_KINDS}{hint}")


def is_payload_of(payload: object, payload_class: Any) -> bool:
    """Tell whether a payload is an instance of a class, or a mapping where the class is one."""
    kind = get_origin(payload_class) or payload_class
    return isinstance(payload, Mapping) if issubclass(kind, Mapping) else isinstance(payload, kind)


def payload_reader(payload_class: Any) -> Callable[[Any], Any]:
    """Make the function that turns a stored payload into an instance of a class; it raises `Mismatch`.

    Raises `ConfigurationError` if a field has a type that cannot be read.
    """
    read = reader_of(payload_class, nested=_nested_reader)

    def load(stored: Any) -> Any:
        try:
            return read(stored)
        except Mismatch:
            raise
        except Exception as error:  # a validator, or the `__post_init__` of the user's class
            raise Mismatch(describe(error)) from error

    return load


def _nested_reader(kind: Any) -> Callable[[Any], Any] | None:
    """Make the reader of a class that a library reads; None for any other class."""
    if is_pydantic(kind):
        return _pydantic_reader(kind)
    return _msgspec_reader(kind) if is_struct(kind) else None


def _pydantic_reader(kind: Any) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - optional

    validate = TypeAdapter(kind).validate_python

    def read(stored: Any) -> Any:
        if type(stored) is kind:
            return stored
        try:
            # Not strict, because stored times are texts, also for a model whose configuration is strict.
            return validate(stored, strict=False, by_alias=True, by_name=True)
        except ValidationError as error:
            first, *others = error.errors(include_url=False, include_context=False, include_input=False)
            more = f" (and {len(others)} more)" if others else ""
            raise Mismatch(f"{first['msg']}{more}", steps=_steps(first["loc"])) from None

    return read


def _steps(location: tuple[int | str, ...]) -> list[str]:
    return [f"[{step}]" if isinstance(step, int) else f".{step}" for step in reversed(location)]


def _msgspec_reader(kind: Any) -> Callable[[Any], Any]:
    from msgspec import ValidationError, convert  # noqa: PLC0415 - optional

    def read(stored: Any) -> Any:
        try:
            return convert(stored, kind, dec_hook=_decode_number)
        except ValidationError as error:
            reason, _, place = str(error).partition(" - at `$")
            raise Mismatch(reason, steps=[place.removesuffix("`")] if place else []) from None

    return read


def _decode_number(kind: Any, value: Any) -> Any:
    return float(value) if kind is float and isinstance(value, Decimal) else value
