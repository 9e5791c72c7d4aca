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
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from dynamodb_outbox.dynamodb.conditional.repair_transitions import RESUME
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.operating.holds_item import Holds, HoldsItem
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.repairs import Hold, in_order

READ: Final = ("id", "status", "type", "gsiSortKey")
"""The attributes of a HELD event that a resume needs. An index need not have the type."""
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
        self._spread = options.random() * SPREAD_SECONDS

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None) -> None:
        """Store a hold. Raises `StorageError`."""
        since = datetime.fromtimestamp(self._options.clock(), UTC)
        self._known = await self._item.put(Hold(type=type, reason=reason, by=by, since=since, until=until))

    async def resume(self, type: str | None) -> int:
        """End a hold, and make the HELD events of its type PENDING. Raises `StorageError`; may be repeated."""
        self._known = await self._item.end(type)
        return 0 if type is None else len(await self._resume(lambda held: held == type))

    async def holds(self) -> list[Hold]:
        """Read the holds that are in force. Raises `StorageError`."""
        self._known = await self._item.read(consistent=False, within=self._timing.holds)
        now = self._options.clock()
        return in_order(stored.hold for stored in self._known.values() if not stored.is_over(now))

    def note(self, type: str) -> None:
        """Note that this process holds an event of a type now."""
        self._noted[type] = self._options.clock()

    async def sweep(self) -> list[str]:
        """Resume events whose type is not held any more, if it is time to look for some. Raises `StorageError`."""
        now = self._options.clock()
        if self._sweep_at is None:
            self._sweep_at = now + self._timing.held_sweep * (1 + self._options.random()) / 2
        is_timed = now >= self._sweep_at
        noted = [each for each, at in self._noted.items() if now >= at + self._timing.held_grace]
        if not (is_timed or noted or self._has_ended(now)):
            return []
        self._known = await self._item.read(consistent=True, within=self._timing.operator)
        held = {each for each, stored in self._known.items() if each is not None and not stored.is_over(now)}
        resumed: list[str] = []
        # Events of a type that is held would be read in vain each time, and there may be many.
        is_overdue = now >= self._swept_at + self._timing.held_longest
        if self._has_ended(now) or not held.issuperset(noted) or not held or is_overdue:
            resumed = await self._resume(lambda event_type: event_type not in held)
            self._swept_at = now
        self._sweep_at = now + self._timing.held_sweep
        self._noted = {each: at for each, at in self._noted.items() if each not in noted}
        return resumed

    def _has_ended(self, now: float) -> bool:
        """Tell whether a hold has ended since the last sweep, or ended so long ago that every worker knows of it."""
        ends = [stored.ends_at for event_type, stored in self._known.items() if event_type is not None]
        moments = [end + wait for end in ends if end is not None for wait in (self._spread, self._timing.held_grace)]
        return any(self._swept_at < moment <= now for moment in moments)

    async def _resume(self, is_meant: Callable[[str | None], bool]) -> list[str]:
        """Make HELD events PENDING; return their ids. Their due times stay."""
        resumed: list[str] = []
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
                for write, result in zip(writes, results, strict=True):
                    if isinstance(result, StorageError):
                        raise result
                    if isinstance(result, Applied) or result == Refused(repeated=True):
                        resumed.append(write.event_id)
        return resumed


def _is_held(item: Item) -> bool:
    return item.get("status") == {"S": EventStatus.HELD.value} and "gsiSortKey" in item
