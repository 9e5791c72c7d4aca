"""Events as CloudEvents 1.0, in the structured JSON format.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from dynamodb_outbox import ConfigurationError, Event
from dynamodb_outbox.publishers.json_form import plain, to_json

CONTENT_TYPE: Final = "application/cloudevents+json"
DEFAULT_SOURCE: Final = "dynamodb-outbox"
_RESERVED: Final = frozenset({
    "id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data", "database64",
})  # fmt: skip
_LETTERS_AND_DIGITS: Final = re.compile(r"[a-z0-9]+")
_INTEGER: Final = 2**31
"""CloudEvents has integers of 32 bits."""


def source_of(given: object) -> str:
    """Return the `source` that a publisher was given, or the default instead of None. Raises `ConfigurationError`."""
    if given is None:
        return DEFAULT_SOURCE
    if not isinstance(given, str) or not given:
        raise ConfigurationError(f"source={given!r}: it must be a name of your service, such as '/shop'")
    return given


def structured(event: Event, *, source: str = DEFAULT_SOURCE) -> str:
    """Write an event as a CloudEvent.

    The payload is `data`. The ordering key becomes `partitionkey`. Each entry of the metadata whose name has letters
    and digits only, and whose value is a string, an integer or a boolean, becomes an extension with the name in lower
    case: `correlationId` is `correlationid`. Other metadata is left out.
    """
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": event.type,
        "time": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
    }
    if event.ordering_key is not None:
        attributes["partitionkey"] = event.ordering_key
    return to_json({**_extensions(event), **attributes, "data": event.payload})


def _extensions(event: Event) -> dict[str, Any]:
    extensions: dict[str, Any] = {}
    for key, stored in event.metadata.items():
        name = str(key).lower()
        value = plain(stored) if isinstance(stored, (Decimal, Enum)) else stored
        if (
            not _LETTERS_AND_DIGITS.fullmatch(name)
            or name in _RESERVED
            or not isinstance(value, (str, int))
            or value == ""
        ):
            continue
        is_long = not isinstance(value, (str, bool)) and not -_INTEGER <= value < _INTEGER
        extensions[name] = str(value) if is_long else value
    return extensions
