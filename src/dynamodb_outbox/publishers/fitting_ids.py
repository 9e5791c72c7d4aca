"""Group and deduplication ids, which AWS limits in length and characters."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

from dynamodb_outbox import Event
from dynamodb_outbox.publishers.cloudevents import DEFAULT_SOURCE

_FITS: Final = re.compile(r"""[a-zA-Z0-9!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}""")


def deduplication_id(event: Event, *, source: str) -> str:
    """Return the id by which a target recognises repeats: the id of the event, with the source if it was given.

    Two services may have events with the same id, and may send to the same target, which would drop one of them. An id
    with a `#` always gets the source: it could be the source and the id of another event.
    """
    is_alone = source == DEFAULT_SOURCE and "#" not in event.id
    return fitting_id(event.id if is_alone else f"{quote(source)}#{event.id}")


def fitting_id(text: str) -> str:
    """Return the text if SQS and SNS take it as an id, or else its SHA-256 in hexadecimal digits."""
    return text if _FITS.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()
