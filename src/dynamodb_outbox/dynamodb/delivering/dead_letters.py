"""Dead letters: counting events by status, and listing FAILED events."""

from __future__ import annotations

from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.delivering.unlisted import count_unlisted
from dynamodb_outbox.dynamodb.items.codec import decode_failed
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.port import OutboxOptions


class DeadLetters:
    """Counts events by status, and lists FAILED events."""

    def __init__(self, caller: Caller, index: StatusIndex, options: OutboxOptions, timing: Timing) -> None:
        self._timing = timing
        self._caller = caller
        self._index = index
        self._options = options

    async def count(self, status: EventStatus) -> int:
        """Count the events of a status: the rows of the index, and for PROCESSING the events of windows, too."""
        unlisted = 0
        if status is EventStatus.PROCESSING:
            # Before the rows, so that an event that is moved into the index meanwhile is not missed.
            unlisted = await count_unlisted(self._caller, self._index, within=self._timing.operator)
        return unlisted + await self._index.count(status, within=self._timing.operator)

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        """List dead letters, the latest first, as the table has them now."""
        found: list[FailedEvent] = []
        async for rows in self._index.latest_first(EventStatus.FAILED, within=self._timing.operator):
            items = await get_items(self._caller, [row["id"]["S"] for row in rows], within=self._timing.operator)
            for row in rows:
                item = items.get(row["id"]["S"])
                if item is None or item.get("status") != {"S": EventStatus.FAILED.value}:
                    continue
                if type is None or item.get("type") == {"S": type}:
                    found.append(decode_failed(item, numbers=self._options.numbers))
            if len(found) >= limit:
                break
        return found[:limit]
