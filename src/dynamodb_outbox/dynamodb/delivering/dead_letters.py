"""Dead letters: counting events by status, and listing FAILED events."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.delivering.unlisted import count_unlisted
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.ordering.standing import Standing, Standings
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.port import OutboxOptions


class DeadLetters:
    """Counts events by status, and lists FAILED events.

    The queue of an ordering key is one row of the index. It counts as the event at its front.
    """

    def __init__(self, caller: Caller, index: StatusIndex, options: OutboxOptions, timing: Timing) -> None:
        self._timing = timing
        self._caller = caller
        self._index = index
        self._options = options
        self._standings = Standings(caller, within=timing.operator)

    async def count(self, status: EventStatus) -> int:
        """Count the events of a status: the rows of the index, and for PROCESSING the events of windows, too."""
        unlisted = 0
        if status is EventStatus.PROCESSING:
            # Before the rows, so that an event that is moved into the index meanwhile is not missed.
            unlisted = await count_unlisted(self._caller, self._index, within=self._timing.operator)
        return unlisted + await self._index.count(status, within=self._timing.operator)

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        """List dead letters, the latest first, as the table has them now."""
        found: dict[str, FailedEvent] = {}
        async for rows in self._index.latest_first(EventStatus.FAILED, within=self._timing.operator):
            ids = [row["id"]["S"] for row in rows]
            items = await get_items(self._caller, ids, within=self._timing.operator)
            failed = {each: items[each] for each in ids if each in items and items[each].get("status") == _FAILED}
            queues = {each: item for each, item in failed.items() if is_queue_id(each)}
            fronts = await self._standings.of_fronts(queues) if queues else {}
            for each, item in failed.items():
                standing = fronts.get(each, Standing(event_id=each, event=item))
                letter = standing.decode_failed(numbers=self._options.numbers)
                # One that blocks its key may also be in the index by itself, for a moment.
                if type in (None, letter.type) and (letter.id not in found or letter.blocks_key):
                    found[letter.id] = letter
            if len(found) >= limit:
                break
        return list(found.values())[:limit]


_FAILED: Final = {"S": EventStatus.FAILED.value}
