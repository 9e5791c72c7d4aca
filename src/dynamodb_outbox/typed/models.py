"""Turns stored payloads into instances of a class.

pydantic and msgspec are optional. They are imported when a class of theirs is used, which has imported them already.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.typed.fields import reader_of
from dynamodb_outbox.typed.kinds import class_name, is_pydantic, is_struct
from dynamodb_outbox.typed.mismatch import Mismatch, mismatch_of


def payload_reader(payload_class: Any) -> Callable[[Any], Any]:
    """Make the function that turns a stored payload into an instance of a class; it raises `Mismatch`.

    Raises `ConfigurationError` if a field has a type that cannot be read.
    """
    read = reader_of(payload_class, nested=_nested_reader)

    def load(stored: Any) -> Any:
        try:
            return read(stored)
        except Exception as error:
            mismatch = mismatch_of(error)
            raise mismatch from mismatch.__cause__

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
            # Unlike other messages, this message would show the stored value.
            reason = "its tag is not one of the expected tags" if first["type"] == "union_tag_invalid" else first["msg"]
            raise Mismatch(f"{reason}{more}", steps=_steps(first["loc"])) from None

    return read


def _steps(location: tuple[int | str, ...]) -> list[str]:
    return [f"[{step}]" if isinstance(step, int) else f".{step}" for step in reversed(location)]


def _msgspec_reader(kind: Any) -> Callable[[Any], Any]:
    from msgspec import ValidationError, convert  # noqa: PLC0415 - optional

    with suppress(ValidationError):
        try:
            convert({}, kind, dec_hook=_decode)
        except TypeError as error:
            raise ConfigurationError(f"{class_name(kind)} cannot be read by msgspec: {error}") from error

    def read(stored: Any) -> Any:
        try:
            return convert(stored, kind, dec_hook=_decode)
        except ValidationError as error:
            reason, _, place = str(error).partition(" - at `$")
            raise Mismatch(_unquoted(reason), steps=[place.removesuffix("`")] if place else []) from None

    return read


def _decode(kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, Decimal):
        return float(value)
    return _nested_model(kind)(value) if is_pydantic(kind) else value


@cache
def _nested_model(kind: Any) -> Callable[[Any], Any]:
    return _pydantic_reader(kind)


def _unquoted(reason: str) -> str:
    """Leave out the stored value, which msgspec shows if an Enum, a Literal or a union of tags does not have it."""
    return re.sub(r"^(Invalid [a-z ]*value) .*", r"\1", reason, flags=re.DOTALL)
