"""Recovery of windows: every id that the window of a dead worker covers is settled, then the window is closed.

Example: a worker dies whose window covers the numbers 200 to 399, and 20 of its events still run. Recovery takes the
window, so that its worker could not renew it any more. It reads the 200 ids, moves the 20 events into the index, and
writes a tombstone for each id that is not stored, because the write of its event may still be on its way. Then no event
of the window can be missed, and recovery closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import anyio

from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.delivering.index import poll_timeout
from dynamodb_outbox.dynamodb.delivering.recovered import RecoveredSoFar
from dynamodb_outbox.dynamodb.delivering.unlisted import UNLISTED_ATTRIBUTES, is_unlisted
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.transport.classify import concerns_all
from dynamodb_outbox.dynamodb.transport.responses import read_new_item
from dynamodb_outbox.dynamodb.windows.fence import Fence
from dynamodb_outbox.dynamodb.windows.item import StoredWindow, close, is_of_region, read_window, take
from dynamodb_outbox.dynamodb.windows.opening import region_of
from dynamodb_outbox.errors import RecoveryError, StorageError
from dynamodb_outbox.observers import WindowRecovered, logger
from dynamodb_outbox.port import OutboxOptions

RENEW_AFTER: Final = 1 / 3
"""The part of the time of a hold after which a recovery that still runs renews it."""


class WindowRecovery:
    """Recovers windows whose lease ran out. Several recoveries of one window, whole or in part, do no harm.

    An ordinary window has about 200 numbers: 200 read units, one write unit for each tombstone, and two for each event
    that is moved into the index (more for events larger than 1 KB). The longest has 4,096 numbers: 4,096 read units,
    and up to 4,096 write units if none of its events was stored. Requests are batches of 100 reads and 25 tombstones.
    """

    def __init__(self, caller: Caller, fence: Fence, options: OutboxOptions, timing: Timing) -> None:
        self.fence = fence
        self._caller = caller
        self._options = options
        self._timing = timing
        self._region = region_of(caller)

    async def recover(self, rows: Sequence[Item], done: RecoveredSoFar, max_retries: int) -> None:
        """Recover the windows of a page of rows. After an error a window is left until the hold on it runs out."""
        for row in rows:
            window_id: str = row["id"]["S"]
            if not is_of_region(window_id, self._region):
                continue
            try:
                await self._recover(window_id, row["gsiSortKey"], done, max_retries)
            except StorageError as error:
                if concerns_all(error):
                    raise
                done.errors.append(RecoveryError(event_id=window_id, cause=error, is_window=True))

    async def _recover(self, window_id: str, seen: Any, done: RecoveredSoFar, max_retries: int) -> None:
        hold = _Hold(self._caller, window_id, self._options.clock, length=self._timing.window_hold, within=self._within)
        item = await hold.take(seen)
        if item is None:
            return
        window = read_window(item)
        if window is None:
            raise StorageError("an attribute of the window is missing or has a value that cannot be right")
        found = _Found()
        for first in range(window.start, window.end, BATCH_GET):
            if not await hold.keep():
                return
            ids = [window.id_of(number) for number in range(first, min(first + BATCH_GET, window.end))]
            await self._settle(window, ids, found, done, max_retries)
        if not found.is_complete:
            done.skipped.append(window_id)
        elif await hold.close():
            self._tell(window, found)

    async def _settle(
        self, window: StoredWindow, ids: Sequence[str], found: _Found, done: RecoveredSoFar, max_retries: int
    ) -> None:
        """Settle ids: move events into the index, and write tombstones for the ids that have no item.

        An event that cannot be written is reported, and holds up no other event, but the window stays open.
        """
        items = await get_items(self._caller, ids, within=self._within, attributes=UNLISTED_ATTRIBUTES)
        missing = [event_id for event_id in ids if event_id not in items]
        tombstones = await self.fence.write_tombstones(missing, within=self._within, inserts=True)
        # An event that was stored since the read refuses its tombstone.
        events = [event_id for event_id, item in items.items() if is_unlisted(item, window)]
        events += [event_id for event_id, result in tombstones.items() if isinstance(result, Refused)]
        entered = await self.fence.enter(window.name, events, within=self._within, max_retries=max_retries)
        found.events += len(entered.reset) + len(entered.failed)
        found.tombstones += sum(isinstance(result, Applied) for result in tombstones.values())
        found.is_complete = found.is_complete and not entered.errors()
        done.add(entered)
        for result in (*tombstones.values(), entered.error_of_all()):
            if isinstance(result, StorageError):
                raise result

    def _tell(self, window: StoredWindow, found: _Found) -> None:
        logger.warning(
            "recovered the window %s, because its worker died or hung: %d of its events were open, and %d of its ids "
            "had no event",
            window.name,
            found.events,
            found.tombstones,
        )
        if self._caller.observers:
            self._caller.observers.notify(
                WindowRecovered(window=window.name, events=found.events, tombstones=found.tombstones)
            )

    @property
    def _within(self) -> float:
        return poll_timeout(self._options, self._timing)


@dataclass(slots=True)
class _Found:
    """What the recovery of one window has found and written until now."""

    events: int = 0
    tombstones: int = 0
    is_complete: bool = True
    """Whether it is known of every id that its event is in the index or done, or can never be stored."""


class _Hold:
    """The hold of this recovery on a window. While it lasts, no other worker recovers the window."""

    def __init__(
        self, caller: Caller, window_id: str, clock: Callable[[], float], *, length: float, within: float
    ) -> None:
        self._caller = caller
        self._window_id = window_id
        self._clock = clock
        self._length = length
        self._within = within
        self._token = token_hex(16)
        self._seen: Any = None
        self._renew_at = 0.0

    async def take(self, seen: Any) -> Item | None:
        """Take the window, if its lease still ends at `seen`. Returns the item; None if somebody else was quicker."""
        started = anyio.current_time()
        deadline = self._clock() + self._length
        try:
            item = await self._update(take(self._window_id, seen=seen, token=self._token, deadline=deadline))
        except ConditionRefused:
            return None
        self._seen = item["gsiSortKey"]
        self._renew_at = started + RENEW_AFTER * self._length
        return item

    async def keep(self) -> bool:
        """Renew the hold if a part of its time has passed. False if another recovery has taken the window."""
        return anyio.current_time() < self._renew_at or await self.take(self._seen) is not None

    async def close(self) -> bool:
        """Close the window: all its ids are settled. False if another recovery has taken or closed it."""
        closing = close(self._window_id, token=self._token, now=self._clock())
        try:
            await self._update(closing | {"ReturnValues": "ALL_NEW"})
        except ConditionRefused as refused:
            # The response to an earlier attempt may be lost, which has closed the window.
            return refused.repeated
        return True

    async def _update(self, arguments: dict[str, Any]) -> Item:
        item: Item = await self._caller.call(
            "update_item", within=self._within, read=read_new_item, TableName=self._caller.table_name, **arguments
        )
        return item
