"""Turns stored payloads into instances of a class.

pydantic and msgspec are optional. They are imported when a class of theirs is used, which has imported them already.
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
        except Mismatch:
            raise
        except Exception as error:
            raise mismatch_of(error) from error

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
    from msgspec import ValidationError, convert, json  # noqa: PLC0415 - it is an optional dependency

    try:
        json.Decoder(kind)  # it checks the types, and makes no instance
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{class_name(kind)} cannot be read by msgspec: {error}") from error

    def read(stored: Any) -> Any:
        try:
            return convert(stored, kind, dec_hook=_decode)
        except ValidationError as error:
            reason, _, place = str(error).rpartition(" - at `$")
            if not reason:
                raise Mismatch(_unquoted(place)) from None
            raise Mismatch(_unquoted(reason), steps=[place.removesuffix("`")]) from None

    return read


def _decode(kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, Decimal):
        return float(value)
    if not is_pydantic(kind):
        return value
    try:
        return _nested_model(kind)(value)
    except Mismatch as error:
        # msgspec adds the place of the model.
        raise ValueError(
            ": ".join(filter(None, (error.path().removeprefix("payload").lstrip("."), error.reason)))
        ) from None


@cache
def _nested_model(kind: Any) -> Callable[[Any], Any]:
    return _pydantic_reader(kind)


def _unquoted(reason: str) -> str:
    """Leave out the stored value, which msgspec shows if an Enum, a Literal or a union of tags does not have it."""
    return re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", reason, flags=re.DOTALL)
