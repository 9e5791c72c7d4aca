"""What an operator reads: one event, pages of events, and samples."""

from __future__ import annotations

from dataclasses import replace

from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item, attribute, is_unlisted
from dynamodb_outbox.dynamodb.items.stored import decode_stored, seconds_of
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.ordering.standing import Standing, Standings, may_be_in_line
from dynamodb_outbox.dynamodb.reading.listing import Listing
from dynamodb_outbox.dynamodb.reading.sampling import Sampling
from dynamodb_outbox.dynamodb.reading.window_events import WindowEvents
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.windows.item import WINDOW, window_id
from dynamodb_outbox.dynamodb.windows.opening import region_of
from dynamodb_outbox.event import may_be_id
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.stored_events import EventState, Page, Sample, StoredEvent


class Reader:
    """Reads events by id and by state. Changes nothing."""

    def __init__(self, caller: Caller, index: StatusIndex, options: OutboxOptions, timing: Timing) -> None:
        self._caller = caller
        self._options = options
        self._within = timing.operator
        self._standings = Standings(caller, within=timing.operator)
        windows = WindowEvents(caller, index, within=timing.operator)
        self._listing = Listing(caller, index, windows, options, within=timing.operator)
        self._sampling = Sampling(index, windows, options, within=timing.operator)

    async def get(self, event_id: str) -> StoredEvent | None:
        """Read an event as it is in the table now; None if there is none.

        The id of a queue stands for the event at its front.
        """
        if is_queue_id(event_id):
            return await self._front(event_id)
        if not may_be_id(event_id):
            return None
        item = await self._item_of(event_id)
        ends = await self._window_ends(item)
        if item is not None and ends is None and is_unlisted(item):
            # The event has probably been completed, or moved into the index, before its window was closed.
            item = await self._item_of(event_id)
            ends = await self._window_ends(item)
        if item is None:
            return None
        if may_be_in_line(item):
            return await self._keyed(item)
        return decode_stored(item, numbers=self._options.numbers, now=self._options.clock(), window_ends=ends)

    async def _front(self, queue_id: str) -> StoredEvent | None:
        standing = (await self._standings.read([queue_id]))[queue_id]
        if standing.queue is not None and standing.waiting_behind is None:
            # The event is done. A worker has probably taken it from the queue meanwhile.
            standing = (await self._standings.read([queue_id]))[queue_id]
        return await self._counted(standing)

    async def _keyed(self, item: Item) -> StoredEvent | None:
        event_id = item["id"]["S"]
        standing = (await self._standings.of({event_id: item}))[event_id]
        if standing.is_queued and standing.is_unlisted:
            # The event has probably left its queue before the queue was read.
            item = await self._item_of(event_id) or item
            standing = replace(standing, event=item)
        return await self._counted(standing)

    async def _counted(self, standing: Standing) -> StoredEvent | None:
        counted = (await self._standings.counted({standing.event_id: standing}))[standing.event_id]
        return counted.decode(numbers=self._options.numbers, now=self._options.clock())

    async def _item_of(self, event_id: str) -> Item | None:
        return (await get_items(self._caller, [event_id], within=self._within)).get(event_id)

    async def _window_ends(self, event: Item | None) -> float | None:
        """Read when the lease of the window of an event ends; None if it has none, or if the window is closed.

        Windows of other Regions are not read.
        """
        name = attribute(event, "window", "S") if event is not None and is_unlisted(event) else None
        if not name:
            return None
        item_id = window_id(name, region=region_of(self._caller))
        attributes = ("id", "status", "gsiSortKey")
        item = (await get_items(self._caller, [item_id], within=self._within, attributes=attributes)).get(item_id, {})
        return seconds_of(item.get("gsiSortKey", {}).get("N")) if item.get("status") == {"S": WINDOW} else None

    async def list_events(self, state: EventState | str, *, type: str | None, after: str | None, limit: int) -> Page:
        """List events of a state, a page at a time."""
        return await self._listing.page(state, type=type, after=after, limit=limit)

    async def sample(self, *, count_limit: int) -> Sample:
        """Count the events in each state, up to a limit."""
        return await self._sampling.take(count_limit=count_limit)
