"""The repairs of one event of an `InMemoryOutbox`. Each repair tells whether it was carried out.

An event with an ordering key may be at the front of its queue, in line behind it, or set aside. A repair of the one at
the front sees, and changes, the delivery of the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.fences import Fence
from dynamodb_outbox.memory.storage import Discard, StoredEvent
from dynamodb_outbox.memory.table import Queue, Table

OnUnblocked = Callable[[StoredEvent, Literal["retry", "skip", "discard"]], None]
"""Called with the event that blocked its key, and what was done to it."""


class Repairs:
    """Repairs of the events of a table, at one time (epoch seconds)."""

    def __init__(self, table: Table, now: float, on_unblocked: OnUnblocked) -> None:
        self._table = table
        self._now = now
        self._on_unblocked = on_unblocked

    def redrive(self, event_id: str, fence: Fence | None) -> bool:
        """Make a FAILED event PENDING. One that was set aside goes to the end of its line."""
        stored = self._table.find(event_id)
        if stored is None:
            return False
        is_at_front = self._table.queue_at(stored) is not None
        if stored.ordering_key is not None and not is_at_front:
            if stored.status is not EventStatus.FAILED or not stored.is_as_seen(fence):
                return False
            self._table.append(stored, self._now)
            return True
        is_redriven = stored.redrive(self._now, fence)
        if is_redriven and is_at_front:
            self._on_unblocked(stored, "retry")
        return is_redriven

    def skip(self, event_id: str) -> bool:
        """Set aside an event that blocks its key."""
        stored = self._table.find(event_id)
        queue = None if stored is None else self._table.queue_at(stored)
        if stored is None or queue is None or stored.status is not EventStatus.FAILED:
            return False
        self._table.set_aside(queue)
        self._table.pop(queue, self._now)
        self._on_unblocked(stored, "skip")
        return True

    def discard(self, event_id: str, discard: Discard, fence: Fence | None) -> bool:
        """Make an event DISCARDED that no worker holds."""
        stored = self._table.find(event_id)
        if stored is None or not self._table.may_be_discarded(stored) or not stored.is_as_seen(fence):
            return False
        queue = self._table.queue_at(stored)
        self._discard(stored, queue, discard)
        if queue is not None:
            self._table.pop(queue, self._now)
        return True

    def replace(self, old: StoredEvent, new: Item, discard: Discard) -> None:
        """Discard an event, and store a new one: in its place, if that is at the front of a queue."""
        queue = self._table.queue_at(old)
        self._discard(old, queue, discard)
        if queue is not None and new.get("orderingKey") == old.item["orderingKey"]:
            self._table.put_at_front(queue, new, self._now)
            return
        if queue is not None:
            self._table.pop(queue, self._now)
        self._table.put(new, due_at=self._now)

    def _discard(self, stored: StoredEvent, queue: Queue | None, discard: Discard) -> None:
        """Discard an event; that at the front keeps what the queue knows of its delivery."""
        blocked = queue is not None and stored.status is EventStatus.FAILED
        stored.discard(discard)
        self._table.events[stored.event_id] = stored
        if blocked:
            self._on_unblocked(stored, "discard")
