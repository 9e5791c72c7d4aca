"""Cursors: where a page of events ended, in one word that a caller can keep and pass on."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.stored_events import EventState
from dynamodb_outbox.wording import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The position after an event, in the listing of one state that began at `now` (epoch milliseconds).

    `sort_key` is the sort key of the event, and `partition` the number of its partition, of `partitions`. In a window,
    `sort_key` is empty, `id` names the window, and `number` is the next number of the window.
    """

    state: EventState
    now: int
    partitions: int
    partition: int = 0
    sort_key: str = ""
    id: str = ""
    number: int = 0

    @property
    def text(self) -> str:
        """The cursor as one word."""
        fields = [self.state, self.now, self.partitions, self.partition, self.sort_key, self.id, self.number]
        return base64.urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(text: str, *, state: EventState, partitions: int) -> Cursor:
    """Read a cursor. Raises `ConfigurationError` if it is not from a page of this state and this index."""
    try:
        padded = text + "=" * (-len(text) % 4)
        cursor = _cursor_of(json.loads(base64.b64decode(padded, altchars=b"-_", validate=True)))
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        raise ConfigurationError(
            f"after={shown(text)}: it must be the `after` of the page before, from a call with the same state"
        ) from None
    if cursor.state is not state:
        raise ConfigurationError(f"after={shown(text)}: it is the cursor of {cursor.state} events, not of {state} ones")
    if cursor.partitions != partitions or not 0 <= cursor.partition < partitions:
        raise ConfigurationError(
            f"after={shown(text)}: it is the cursor of another index, or the number of shards has changed; begin again "
            "without it"
        )
    return cursor


def _cursor_of(fields: Any) -> Cursor:
    state, now, partitions, partition, sort_key, event_id, number = fields
    numbers, texts = (now, partitions, partition, number), (sort_key, event_id)
    if not all(type(each) is int for each in numbers) or not all(type(each) is str for each in texts):
        raise ValueError("a field has another type")
    if sort_key and not Decimal(sort_key).is_finite():
        raise ValueError("the sort key is not a number")
    return Cursor(
        state=EventState(state),
        now=now,
        partitions=partitions,
        partition=partition,
        sort_key=sort_key,
        id=event_id,
        number=number,
    )
