"""The events of windows, which are in no index: they are found by reading the ids that a window covers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from dynamodb_outbox.dynamodb.delivering.index import Part, StatusIndex
from dynamodb_outbox.dynamodb.delivering.unlisted import UNLISTED_ATTRIBUTES, is_unlisted
from dynamodb_outbox.dynamodb.items.codec import Item, attribute
from dynamodb_outbox.dynamodb.items.stored import seconds_of
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.dynamodb.windows.item import StoredWindow, read_window


@dataclass(frozen=True, slots=True)
class LeasedWindow:
    """A window, and the end of its lease (epoch seconds)."""

    window: StoredWindow
    ends: float

    @property
    def numbers(self) -> int:
        """How many numbers the window covers."""
        return self.window.end - self.window.start


@dataclass(frozen=True, slots=True)
class WindowPart:
    """What was read of a window: the numbers before `next`, and the events among them that are in no index."""

    events: Sequence[tuple[int, Item]]
    next: int


class WindowEvents:
    """Reads windows, and the events in them. Each number of a window costs a read unit, or half of one if stale."""

    def __init__(self, caller: Caller, index: StatusIndex, *, within: float) -> None:
        self._caller = caller
        self._index = index
        self._within = within

    async def windows(self, units: ReadUnits) -> list[LeasedWindow]:
        """Read all windows, in the order of their ids."""
        found: list[LeasedWindow] = []
        for partition in self._index.windows():
            part, more = Part(), True
            while more:
                rows, more = await self._index.page(partition, part, limit=BATCH_GET, within=self._within, units=units)
                found += await self._read([row["id"]["S"] for row in rows], units)
                part, more = Part(after=rows[-1] if rows else None), more and bool(rows)
        return sorted(found, key=lambda leased: leased.window.id)

    async def _read(self, ids: Sequence[str], units: ReadUnits) -> list[LeasedWindow]:
        items = await get_items(self._caller, ids, within=self._within, units=units) if ids else {}
        leased = [(read_window(item), seconds_of(attribute(item, "gsiSortKey", "N"))) for item in items.values()]
        return [LeasedWindow(window, ends) for window, ends in leased if window is not None and ends is not None]

    async def events(self, window: StoredWindow, *, start: int) -> AsyncIterator[WindowPart]:
        """Read the events of a window from a number on, a hundred numbers at a time."""
        for first in range(max(start, window.start), window.end, BATCH_GET):
            end = min(first + BATCH_GET, window.end)
            number_of = {window.id_of(number): number for number in range(first, end)}
            items = await get_items(self._caller, list(number_of), within=self._within)
            events = [(number_of[event_id], item) for event_id, item in items.items() if is_unlisted(item, window)]
            yield WindowPart(sorted(events, key=lambda event: event[0]), end)

    async def count(self, window: StoredWindow, *, numbers: int, units: ReadUnits) -> int:
        """Count the events among the first numbers of a window. The items may be stale, which costs half."""
        total = 0
        end = min(window.end, window.start + numbers)
        for first in range(window.start, end, BATCH_GET):
            ids = [window.id_of(number) for number in range(first, min(first + BATCH_GET, end))]
            items = await get_items(
                self._caller,
                ids,
                within=self._within,
                attributes=UNLISTED_ATTRIBUTES,
                consistent=False,
                units=units,
            )
            total += sum(is_unlisted(item, window) for item in items.values())
        return total
