"""Reports of items that no handler can get, such as an item without a type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from dynamodb_outbox.errors import OutboxError, StoredEventError
from dynamodb_outbox.observers import EventFailed, Observers
from dynamodb_outbox.reporting import Report


async def report_unusable(
    items: Sequence[tuple[StoredEventError, bool]],
    *,
    report: Report | None,
    default: Callable[[OutboxError], Awaitable[None]],
    observers: Observers,
) -> None:
    """Report the error of each item, and notify observers of each item that is FAILED now."""
    for error, is_failed in items:
        if report is not None:
            report(error)
        else:
            await default(error)
        if is_failed and observers:
            observers.notify(
                EventFailed(event_id=error.event_id, event_type="?", attempt=0, error=str(error), reason="unreadable")
            )
