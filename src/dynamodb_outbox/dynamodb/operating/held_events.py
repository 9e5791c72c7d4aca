"""Holds, and the events that are HELD: resuming them, and finding those that were left behind.

A worker learns of the end of a hold some seconds later, and may hold an event meanwhile. A hold may also expire, and a
process that resumes events may die. So recovery looks for events that are HELD though their type is not held any more:

- when a hold that this process knows of has expired,
- ten seconds after the end of a hold,
- ten seconds after this process held an event, if its type is not held any more,
- every five minutes, if nothing is held at all,
- five minutes after the start of this process at the latest, and every hour: the end of a hold may be forgotten by now,
  and the process that held an event may have died before it looked for it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.conditional.repair_transitions import RESUME
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.operating.holds_item import Holds, HoldsItem
from dynamodb_outbox.dynamodb.ordering.queue import read_queue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.repairs import Hold, in_order

READ: Final = ("id", "status", "type", "gsiSortKey", "ids", "head")
"""The attributes of a HELD event, or of the queue of an ordering key, that a resume needs. An index need not have them.
"""
SPREAD_SECONDS: Final = 2.0
"""The workers of a table begin within this time after the end of a hold, so that they share the events."""


class HeldEvents:
    """The holds of a table, as this process knows them, and the resumption of HELD events."""

    def __init__(
        self,
        item: HoldsItem,
        caller: Caller,
        index: StatusIndex,
        writer: ConditionalWriter,
        *,
        options: OutboxOptions,
        timing: Timing,
    ) -> None:
        self._item = item
        self._caller = caller
        self._index = index
        self._writer = writer
        self._options = options
        self._timing = timing
        self._known: Holds = {}
        self._noted: dict[str, float] = {}
        self._swept_at = -math.inf
        self._sweep_at: float | None = None
        self._began_at = -math.inf
        self._under_way: AsyncIterator[list[str]] | None = None
        self._still_held: set[str] = set()
        self._spread = options.random() * SPREAD_SECONDS

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None) -> None:
        """Store a hold. Raises `StorageError`."""
        since = datetime.fromtimestamp(self._options.clock(), UTC)
        self._known = await self._item.put(Hold(type=type, reason=reason, by=by, since=since, until=until))

    async def resume(self, type: str | None) -> int:
        """End a hold, and make the HELD events of its type PENDING. Raises `StorageError`; may be repeated."""
        self._known = await self._item.end(type)
        return 0 if type is None else sum([len(ids) async for ids in self._resuming(lambda held: held == type)])

    async def holds(self) -> list[Hold]:
        """Read the holds that are in force. Raises `StorageError`."""
        self._known = await self._item.read(consistent=False, within=self._timing.holds)
        now = self._options.clock()
        return in_order(stored.hold for stored in self._known.values() if not stored.is_over(now))

    def note(self, type: str) -> None:
        """Note that this process holds an event of a type now."""
        self._noted[type] = self._options.clock()

    async def sweep(self) -> list[str]:
        """Resume events whose type is not held any more, if it is time to look for some. Raises `StorageError`.

        A call takes a bounded time, because recovery has to go on meanwhile. The next one goes on where it ended.
        """
        now = self._options.clock()
        if self._sweep_at is None:
            self._sweep_at = now + self._timing.held_sweep * (1 + self._options.random()) / 2
        if self._under_way is None and not (now >= self._sweep_at or self._noted_until(now) or self._has_ended(now)):
            return []
        self._known = await self._item.read(consistent=True, within=self._timing.operator)
        held = {each for each, stored in self._known.items() if each is not None and not stored.is_over(now)}
        self._still_held = held
        if self._under_way is None:
            self._began_at = now
            # Events of a type that is held would be read in vain each time, and there may be many.
            is_overdue = now >= self._swept_at + self._timing.held_longest
            if held and held.issuperset(self._noted_until(now)) and not (self._has_ended(now) or is_overdue):
                self._end_sweep()
                return []
            self._under_way = self._resuming(lambda event_type: event_type not in self._still_held)
        resumed = await self._go_on(self._under_way)
        if self._under_way is None:
            self._swept_at = self._began_at
            self._end_sweep()
        return resumed

    async def _go_on(self, under_way: AsyncIterator[list[str]]) -> list[str]:
        resumed: list[str] = []
        self._under_way, ends_at = None, anyio.current_time() + self._timing.held_part
        async for ids in under_way:
            resumed += ids
            if anyio.current_time() >= ends_at:
                self._under_way = under_way
                break
        return resumed

    def _end_sweep(self) -> None:
        noted = self._noted_until(self._began_at)
        self._noted = {each: at for each, at in self._noted.items() if each not in noted}
        self._sweep_at = self._began_at + self._timing.held_sweep

    def _noted_until(self, now: float) -> list[str]:
        """List the types whose events this process held so long ago that it has to look for them."""
        return [each for each, at in self._noted.items() if now >= at + self._timing.held_grace]

    def _has_ended(self, now: float) -> bool:
        """Tell whether a hold has ended since the last sweep, or ended so long ago that every worker knows of it."""
        ends = [stored.ends_at for event_type, stored in self._known.items() if event_type is not None]
        moments = [end + wait for end in ends if end is not None for wait in (self._spread, self._timing.held_grace)]
        return any(self._swept_at < moment <= now for moment in moments)

    async def _resuming(self, is_meant: Callable[[str | None], bool]) -> AsyncIterator[list[str]]:
        """Make HELD events PENDING, a page at a time; yield their ids. Their due times stay."""
        within = self._timing.operator
        for partition in self._index.complete(EventStatus.HELD):
            async for rows in self._index.keys(partition, within=within, page=BATCH_GET):
                ids = [row["id"]["S"] for row in rows]
                items = await get_items(self._caller, ids, within=within, attributes=READ)
                writes = [
                    Write(RESUME, event_id, {"seen": item["gsiSortKey"]})
                    for event_id, item in items.items()
                    if _is_held(item) and is_meant(item.get("type", {}).get("S"))
                ]
                results = await self._writer.write(writes, within=within)
                resumed: list[str] = []
                for write, result in zip(writes, results, strict=True):
                    if isinstance(result, StorageError):
                        raise result
                    if isinstance(result, Applied) or result == Refused(repeated=True):
                        resumed.append(_event_id_of(items[write.event_id]))
                yield resumed


def _event_id_of(item: Item) -> str:
    """Return the id of an event, or of the event at the front of a queue."""
    queue = read_queue(item)
    return item["id"]["S"] if queue is None else queue.front


def _is_held(item: Item) -> bool:
    return item.get("status") == {"S": EventStatus.HELD.value} and "gsiSortKey" in item
