"""Reads the JSON of a payload, the form that `records.value_of` writes."""

from __future__ import annotations

import base64
import json
from decimal import Decimal, InvalidOperation
from typing import Any

from dynamodb_outbox.cli.records import is_mark


def payload_of(text: str) -> Any:
    """Read a payload. Numbers keep all digits. Raises `ValueError` for a text that is not such JSON."""
    return json.loads(text, parse_float=Decimal, object_hook=_value)


def _value(members: dict[str, Any]) -> Any:
    match members:
        case {"$decimal": str(text), **others} if not others:
            try:
                return Decimal(text)
            except InvalidOperation:
                raise ValueError(f"{text!r} is not a decimal number") from None
        case {"$bytes": str(text), **others} if not others:
            return base64.b64decode(text, validate=True)
        case {"$set": list(members_of_set), **others} if not others:
            return set(members_of_set)
        case _ if is_mark(members):
            return {key.removeprefix("$"): value for key, value in members.items()}
        case _:
            return members
