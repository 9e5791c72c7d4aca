"""Reports of items that no handler can get, such as an item without a type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dynamodb_outbox.dynamodb.ordering.queue import Queue
from dynamodb_outbox.errors import OutboxError, StoredEventError
from dynamodb_outbox.observers import EventFailed, KeyBlocked, Observers
from dynamodb_outbox.reporting import Report


@dataclass(frozen=True, slots=True)
class Unusable:
    """The error of an item, whether the item is FAILED now, and the queue that it blocks then."""

    error: StoredEventError
    is_failed: bool
    queue: Queue | None = None


async def report_unusable(
    items: Sequence[Unusable],
    *,
    report: Report | None,
    default: Callable[[OutboxError], Awaitable[None]],
    observers: Observers,
) -> None:
    """Report the error of each item, and notify observers of each item that is FAILED now."""
    for item in items:
        error = item.error
        if report is not None:
            report(error)
        else:
            await default(error)
        if item.is_failed and observers:
            observers.notify(
                EventFailed(event_id=error.event_id, event_type="?", attempt=0, error=str(error), reason="unreadable")
            )
            if item.queue is not None:
                observers.notify(KeyBlocked(ordering_key=item.queue.key, event_id=error.event_id, event_type="?"))
