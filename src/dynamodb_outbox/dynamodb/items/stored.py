"""Items as an operator sees them: every attribute of an event, also where other programs have written it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypedDict

from dynamodb_outbox.dynamodb.items.codec import (
    Item,
    attribute,
    decode_event,
    handled_by,
    last_error,
    retry_count,
    unhandled_since,
)
from dynamodb_outbox.errors import StoredEventError
from dynamodb_outbox.event import RESERVED_IDS, RESERVED_QUEUE_IDS, EventStatus
from dynamodb_outbox.event_states import state_of
from dynamodb_outbox.fences import fence_of
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.stored_events import StoredEvent

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_DUE: Final = (EventStatus.PENDING, EventStatus.HELD)


def status_of(item: Item) -> EventStatus | None:
    """Return the status of an event; None for items of the library and tombstones, which are not events.

    A queue whose front cannot be read counts as an event, so that an operator sees it.
    """
    item_id = str(item["id"]["S"])
    if item_id.startswith(RESERVED_IDS) and not item_id.startswith(RESERVED_QUEUE_IDS):
        return None
    status = attribute(item, "status", "S")
    return EventStatus(status) if isinstance(status, str) and status in EventStatus.__members__ else None


def decode_stored(item: Item, *, numbers: Numbers, now: float, window_ends: float | None = None) -> StoredEvent | None:
    """Read everything about an event; None for an item that is not an event.

    `window_ends` is the end of the lease of the event's window (epoch seconds), for an event that is in no index.
    """
    status = status_of(item)
    if status is None:
        return None
    sort_key = attribute(item, "gsiSortKey", "N")
    at = seconds_of(sort_key)
    is_in_window = status is EventStatus.PROCESSING and sort_key is None
    ends = window_ends if is_in_window else at
    return StoredEvent(
        **_event_of(item, numbers),
        status=status,
        state=state_of(status, ends, now=now),
        retry_count=retry_count(item),
        due_at=time_of(at) if status in _DUE else None,
        lease_expires_at=time_of(ends) if status is EventStatus.PROCESSING else None,
        started_at=_millis(item, "startedOn"),
        claimed_by=_text(item, "claimedBy"),
        window=_text(item, "window") if is_in_window else None,
        handled_by=handled_by(item),
        unhandled_since=time_of(unhandled_since(item)),
        last_error=last_error(item),
        error_type=_text(item, "errorType"),
        error_handler=_text(item, "errorHandler"),
        failed_at=time_of(at) if status is EventStatus.FAILED else None,
        completed_at=_millis(item, "completedOn"),
        discarded_at=_millis(item, "discardedOn"),
        discarded_by=_text(item, "discardedBy"),
        discard_reason=_text(item, "discardReason"),
        replaced_by=_text(item, "replacedBy"),
        expires_at=time_of(seconds_of(attribute(item, "expireAt", "N"), unit=1)),
        ordering_key=_text(item, "orderingKey"),
        fence=fence_of(status, sort_key),
    )


class _EventFields(TypedDict):
    id: str
    type: str
    payload: Any
    occurred_at: datetime
    metadata: Mapping[str, Any]
    unreadable: str | None
    item: Mapping[str, Any] | None


def _event_of(item: Item, numbers: Numbers) -> _EventFields:
    """Read what was emitted. If it cannot be read, keep the whole item instead of payload, metadata and time."""
    try:
        event = decode_event(item, numbers=numbers)
    except StoredEventError as error:
        return _EventFields(
            id=item["id"]["S"],
            type=str(attribute(item, "type", "S") or "?"),
            payload=None,
            occurred_at=_EPOCH,
            metadata={},
            unreadable=error.reason,
            item=_as_json(item),
        )
    return _EventFields(
        id=event.id,
        type=event.type,
        payload=event.payload,
        occurred_at=event.occurred_at,
        metadata=event.metadata,
        unreadable=None,
        item=None,
    )


def _as_json(value: Any) -> Any:
    """Write an item in DynamoDB's JSON form, as `aws dynamodb put-item --item` reads it: with bytes as base64."""
    match value:
        case Mapping():
            members: Mapping[Any, Any] = value
            return {str(name): _as_json(member) for name, member in members.items()}
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case list() | tuple() | set() | frozenset():
            return [_as_json(member) for member in value]
        case _:
            return value


def seconds_of(number: Any, *, unit: int = 1000) -> float | None:
    """Read a number of milliseconds (or of another `unit` of a second) as seconds; None if it is not a number."""
    try:
        return float(Decimal(number) / unit)
    except (TypeError, ValueError, InvalidOperation, OverflowError):
        return None


def time_of(since_epoch: float | None) -> datetime | None:
    """Make a datetime of epoch seconds: the nearest possible one, because other programs may store any number."""
    if since_epoch is None:
        return None
    try:
        return _EPOCH + timedelta(seconds=since_epoch)
    except (OverflowError, ValueError):
        return _LAST if since_epoch > 0 else _FIRST


def _millis(item: Item, name: str) -> datetime | None:
    return time_of(seconds_of(attribute(item, name, "N")))


def _text(item: Item, name: str) -> str | None:
    value = attribute(item, name, "S")
    return value if isinstance(value, str) and value else None
