"""Items of dead letters to `FailedEvent`s, also where other programs have written them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from dynamodb_outbox.dynamodb.items.codec import Item, attribute, decode_event, handled_by, last_error, retry_count
from dynamodb_outbox.errors import StoredEventError
from dynamodb_outbox.event import Event, FailedEvent
from dynamodb_outbox.port import Numbers


def decode_failed(item: Item, *, numbers: Numbers) -> FailedEvent:
    """Read a dead letter. An unreadable field becomes None, empty or the nearest value."""
    try:
        event: Event | None = decode_event(item, numbers=numbers)
    except StoredEventError:
        event = None
    failed_at, note = _time_of_failure(item)
    return FailedEvent(
        id=item["id"]["S"],
        type=event.type if event else str(attribute(item, "type", "S") or "?"),
        payload=event.payload if event else None,
        occurred_at=event.occurred_at if event else _EPOCH,
        metadata=event.metadata if event else {},
        retry_count=retry_count(item),
        last_error=" ".join(filter(None, (last_error(item), note))),
        failed_at=failed_at,
        handled_by=handled_by(item),
        error_type=attribute(item, "errorType", "S"),
        error_handler=attribute(item, "errorHandler", "S"),
        ordering_key=event.ordering_key if event else attribute(item, "orderingKey", "S"),
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def _time_of_failure(item: Item) -> tuple[datetime, str]:
    """Read the time of a failure, and a note if the stored value is missing or too large for a datetime."""
    stored = attribute(item, "gsiSortKey", "N")
    try:
        since_epoch = float(stored) / 1000
    except (TypeError, ValueError):
        return _EPOCH, "(failed_at is unknown: the item has no gsiSortKey)"
    try:
        return _EPOCH + timedelta(seconds=since_epoch), ""
    except (OverflowError, ValueError):
        limit = _LAST if since_epoch > 0 else _FIRST
        return limit, f"(failed_at is not exact: the gsiSortKey {str(stored)[:40]} is not a time in milliseconds)"
