"""Pages of the events in one state, as they are in the table now.

The index says which events may be in the state, and its rows may be stale. So every event is read from the table, and
left out if it has gone on meanwhile. A page reads a bounded number of events, also if a filter leaves out most of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dynamodb_outbox.cursors import Cursor, read_cursor
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.items.stored import decode_stored
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.ordering.standing import Standings
from dynamodb_outbox.dynamodb.reading.merged_rows import MergedRows, Row
from dynamodb_outbox.dynamodb.reading.window_events import LeasedWindow, WindowEvents
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.event_states import EXAMINED, STATUS_OF, listed_state, state_of
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.stored_events import EventState, Page, StoredEvent

NUMBERS: Final = 1_000
"""How many numbers of windows a page reads at most."""


@dataclass(slots=True)
class _PageSoFar:
    state: EventState
    type: str | None
    limit: int
    events: list[StoredEvent] = field(default_factory=list[StoredEvent])
    places: dict[str, int] = field(default_factory=dict[str, int])
    examined: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.events) >= self.limit

    @property
    def left(self) -> int:
        """How many more events may be read."""
        return max(EXAMINED, self.limit) - self.examined

    def add(self, event: StoredEvent | None) -> None:
        self.examined += 1
        if event is None or event.state is not self.state or self.type not in (None, event.type):
            return
        # An event that blocks its key may also be in the index by itself, for a moment.
        if event.id not in self.places:
            self.places[event.id] = len(self.events)
            self.events.append(event)
        elif event.blocks_key:
            self.events[self.places[event.id]] = event

    def end(self, cursor: Cursor | None) -> Page:
        return Page(events=tuple(self.events), after=None if cursor is None else cursor.text, examined=self.examined)


class Listing:
    """Lists events by state."""

    def __init__(
        self, caller: Caller, index: StatusIndex, windows: WindowEvents, options: OutboxOptions, *, within: float
    ) -> None:
        self._caller = caller
        self._index = index
        self._windows = windows
        self._options = options
        self._within = within
        self._standings = Standings(caller, within=within)

    async def page(self, state: EventState | str, *, type: str | None, after: str | None, limit: int) -> Page:
        """Read the next page. Raises `ConfigurationError` for an `after` that is not from a page of the state."""
        state = listed_state(state)
        partitions = self._index.complete(STATUS_OF[state])
        now = round(self._options.clock() * 1000)
        cursor = Cursor(state=state, now=now, partitions=len(partitions))
        if after is not None:
            cursor = read_cursor(after, state=state, partitions=len(partitions))
        page = _PageSoFar(state, type, limit)
        if STATUS_OF[state] is EventStatus.PROCESSING and not cursor.sort_key:
            stopped = await self._add_windows(page, cursor)
            if stopped is not None:
                return page.end(stopped)
            cursor = replace(cursor, id="", number=0)
        size = limit if type is None else BATCH_GET
        rows = MergedRows(self._index, partitions, cursor, page=size, within=self._within)
        return page.end(await self._add_rows(page, rows, cursor))

    async def _add_rows(self, page: _PageSoFar, rows: MergedRows, cursor: Cursor) -> Cursor | None:
        """Add the events of rows; return where to go on, None at the end."""
        while not page.is_full and page.left > 0:
            wanted = page.limit - len(page.events) if page.type is None else BATCH_GET
            taken = await rows.take(min(wanted, page.left, BATCH_GET))
            events = await self._events_of([row.id for row in taken])
            for position, row in enumerate(taken):
                page.add(events.get(row.id))
                if page.is_full and (position < len(taken) - 1 or not rows.is_done):
                    return _after_row(cursor, row)
            if rows.is_done:
                return None
            cursor = _after_row(cursor, taken[-1])
        return cursor

    async def _add_windows(self, page: _PageSoFar, cursor: Cursor) -> Cursor | None:
        """Add the events of windows; return where to go on, None after the last window.

        The windows come before the rows, so that an event that is moved into the index meanwhile is not missed.
        """
        numbers = NUMBERS
        for leased in await self._windows.windows(ReadUnits()):
            window = leased.window
            is_wanted = state_of(EventStatus.PROCESSING, leased.ends, now=cursor.now / 1000) is page.state
            if not is_wanted or window.id < cursor.id:
                continue
            start = cursor.number if window.id == cursor.id else 0
            async for part in self._windows.events(window, start=start):
                for number, item in part.events:
                    page.add(self._event_of(item, leased))
                    if page.is_full:
                        return replace(cursor, id=window.id, number=number + 1)
                numbers -= BATCH_GET
                if numbers <= 0 or page.left <= 0:
                    return replace(cursor, id=window.id, number=part.next)
        return None

    async def _events_of(self, ids: Sequence[str]) -> dict[str, StoredEvent | None]:
        """Read the events of rows, by the ids of the rows. The row of a queue shows the event at its front."""
        items = await get_items(self._caller, ids, within=self._within) if ids else {}
        queues = {each: item for each, item in items.items() if is_queue_id(each)}
        fronts = await self._standings.counted(await self._standings.of_fronts(queues)) if queues else {}
        numbers, now = self._options.numbers, self._options.clock()
        return {
            each: fronts[each].decode(numbers=numbers, now=now) if each in fronts else self._event_of(item)
            for each, item in items.items()
        }

    def _event_of(self, item: Item, leased: LeasedWindow | None = None) -> StoredEvent | None:
        ends = None if leased is None else leased.ends
        return decode_stored(item, numbers=self._options.numbers, now=self._options.clock(), window_ends=ends)


def _after_row(cursor: Cursor, row: Row) -> Cursor:
    return replace(cursor, partition=row.partition, sort_key=row.sort_key, id=row.id)
