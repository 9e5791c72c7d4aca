"""Where an event with an ordering key stands: at the front of its line, behind other events, or in no line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import Item, attribute
from dynamodb_outbox.dynamodb.items.failed import decode_failed
from dynamodb_outbox.dynamodb.items.stored import decode_stored
from dynamodb_outbox.dynamodb.ordering.queue import (
    NOBODY,
    Queue,
    as_delivered,
    is_queue_id,
    page_ids,
    queue_id,
    read_queue,
)
from dynamodb_outbox.dynamodb.ordering.transitions import Pop, form_of
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.stored_events import Count, StoredEvent

_QUEUED: Final = {"S": EventStatus.QUEUED.value}
_FAILED: Final = {"S": EventStatus.FAILED.value}
SEARCHED_PAGES: Final = 100
"""So many pages of a queue are searched for an event: the first thousand that wait."""
COUNTED_PAGES: Final = 4
"""So many pages are read to count what waits. Two in a row have 11 ids or more: all counts up to 20 are exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An event, and the queue of its ordering key, each as it was read. `event` is None if it is not stored."""

    event_id: str
    event: Item | None
    queue: Queue | None = None
    queue_item: Item | None = None
    next_page: tuple[str, ...] | None = None
    """The first page of the queue, if it was read."""
    counted: tuple[int, ...] = ()
    """The numbers of ids of the first pages, as far as they were read."""

    @property
    def is_front(self) -> bool:
        """Whether it is the turn of the event."""
        return self.queue is not None and self.queue.front == self.event_id

    @property
    def is_queued(self) -> bool:
        """Whether the event is neither COMPLETED nor FAILED nor DISCARDED."""
        return self.event is not None and self.event.get("status") == _QUEUED

    @property
    def blocks_key(self) -> bool:
        """Whether the later events of the key wait, because this one has failed."""
        return self.is_front and self.queue_item is not None and self.queue_item.get("status") == _FAILED

    @property
    def has_next(self) -> bool:
        """Whether the front can be taken: a page that should come next is missing if somebody has deleted it."""
        queue = self.queue
        is_refill = queue is not None and len(queue.head) == 1 and queue.pages > 0
        return not is_refill or bool(self.next_page)

    @property
    def is_unlisted(self) -> bool:
        """Whether no queue lists the event, as far as the queue itself shows: the emit is under way, or has died."""
        if self.queue is None:
            return self.queue_item is None
        return not self.queue.pages and self.event_id not in self.queue.known_ids

    @property
    def may_be_arriving(self) -> bool:
        """Whether its emit may be about to list the event: it is QUEUED, and in no queue, unless a page lists it."""
        return self.is_queued and (self.queue is None or self.event_id not in self.queue.known_ids)

    @property
    def shown(self) -> Item | None:
        """The event as an operator sees it. At the front, the queue describes its delivery."""
        if self.queue_item is None or not self.is_front or not (self.is_queued or self.blocks_key):
            return self.event
        if self.queue is not None and self.event is None:
            # Somebody has deleted the event, and the key waits for it. The id of the queue leads to the key.
            return as_delivered({"id": {"S": self.queue.id}, "orderingKey": {"S": self.queue.key}}, self.queue_item)
        return as_delivered(self.event or {}, self.queue_item)

    @property
    def status(self) -> EventStatus | None:
        """The status that an operator sees; None if the event is not stored."""
        stored = attribute(self.shown or {}, "status", "S")
        return EventStatus(stored) if stored in EventStatus.__members__ else None

    @property
    def waiting_behind(self) -> Count | None:
        """How many events the queue lists behind the event at the front; None for other events."""
        if self.queue is None or not self.is_front or not (self.is_queued or self.blocks_key):
            return None
        # A page has one id at least.
        uncounted = self.queue.pages - len(self.counted)
        return Count(at_least=len(self.queue.known_ids) - 1 + sum(self.counted) + uncounted, is_exact=not uncounted)

    @property
    def waits_for(self) -> str | None:
        """The id of the event at the front, if this event waits behind it."""
        is_behind = self.queue is not None and self.is_queued and not self.is_front and not self.is_unlisted
        return self.queue.front if self.queue is not None and is_behind else None

    def decode(self, *, numbers: Numbers, now: float) -> StoredEvent | None:
        """Read everything about the event; None if it is not stored, or not an event."""
        item = self.shown or (self.queue_item if self.queue is None else None)
        stored = None if item is None else decode_stored(item, numbers=numbers, now=now)
        if stored is None:
            return None
        is_unclaimed = stored.claimed_by is None and self.queue is not None and self.queue.token == NOBODY
        if self.is_front and is_unclaimed:
            stored = replace(stored, started_at=None)  # an emit stored its own time when it made the queue
        return replace(stored, waiting_behind=self.waiting_behind, waits_for=self.waits_for)

    def decode_failed(self, *, numbers: Numbers) -> FailedEvent:
        """Read a dead letter. A queue that cannot be read is shown by its own id."""
        failed = decode_failed(self.shown or self.queue_item or {}, numbers=numbers)
        return replace(failed, blocks_key=self.blocks_key or is_queue_id(failed.id))


class Standings:
    """Reads events and their queues."""

    def __init__(self, caller: Caller, *, within: float) -> None:
        self._caller = caller
        self._within = within

    async def of(self, events: Mapping[str, Item]) -> dict[str, Standing]:
        """Read the queues of events that are read already, by their ids. Raises `StorageError`."""
        queues = await self._get({queue_id(key) for key in map(key_of, events.values()) if key is not None})
        return {each: _standing(each, event, queues) for each, event in events.items()}

    async def of_fronts(self, queues: Mapping[str, Item]) -> dict[str, Standing]:
        """Read the events at the fronts of queues that are read already; return them by the ids of the queues."""
        read = {each: read_queue(item) for each, item in queues.items()}
        events = await self._get({queue.front for queue in read.values() if queue is not None})
        return {
            each: Standing(event_id=each, event=None, queue_item=queues[each])
            if queue is None
            else Standing(event_id=queue.front, event=events.get(queue.front), queue=queue, queue_item=queues[each])
            for each, queue in read.items()
        }

    async def at_end(self, event_id: str, key: str) -> Standing:
        """Read the queue of a key that an event is to join. Raises `StorageError`."""
        item = (await self._get([queue_id(key)])).get(queue_id(key))
        return _standing(event_id, {"orderingKey": {"S": key}}, {} if item is None else {queue_id(key): item})

    async def read(self, event_ids: Sequence[str]) -> dict[str, Standing]:
        """Read events and their queues, and the pages that a repair needs. Raises `StorageError`.

        The id of a queue stands for the event at its front.
        """
        items = await self._get(event_ids)
        found = await self.of({each: item for each, item in items.items() if not is_queue_id(each)})
        found |= await self.of_fronts({each: item for each, item in items.items() if is_queue_id(each)})
        standings = {each: found.get(each, Standing(event_id=each, event=None)) for each in event_ids}
        page_of = {
            each: standing.queue.page_id(standing.queue.first_page)
            for each, standing in standings.items()
            if standing.queue is not None and standing.is_front and form_of(standing.queue) is Pop.REFILL
        }
        pages = await self._get(page_of.values())
        for each, page_id in page_of.items():
            if page_id in pages:
                standings[each] = replace(standings[each], next_page=page_ids(pages[page_id]))
        return standings

    async def any_may_be_arriving(self, standings: Iterable[Standing]) -> bool:
        """Tell whether an emit may be about to list one of the events; reads pages for it. Raises `StorageError`."""
        arriving = [standing for standing in standings if standing.may_be_arriving]
        queues = {standing.queue.id: standing.queue for standing in arriving if standing.queue is not None}
        pages = await self._get(
            queue.page_id(queue.first_page + number)
            for queue in queues.values()
            for number in range(min(queue.pages, SEARCHED_PAGES))
        )
        listed = {event_id for page in pages.values() for event_id in page_ids(page)}
        return any(standing.event_id not in listed for standing in arriving)

    async def counted(self, standings: Mapping[str, Standing]) -> dict[str, Standing]:
        """Read the first pages of queues, to count the events behind those at the front. Raises `StorageError`."""
        pages_of = {
            each: [queue.page_id(queue.first_page + number) for number in range(min(queue.pages, COUNTED_PAGES))]
            for each, standing in standings.items()
            if (queue := standing.queue) is not None and standing.waiting_behind is not None
        }
        pages = await self._get(chain.from_iterable(pages_of.values()))
        return {
            each: replace(standing, counted=_lengths([pages.get(page) for page in pages_of.get(each, ())]))
            for each, standing in standings.items()
        }

    async def _get(self, ids: Iterable[str]) -> dict[str, Any]:
        unique = list(dict.fromkeys(ids))
        items: dict[str, Any] = {}
        for start in range(0, len(unique), BATCH_GET):
            items |= await get_items(self._caller, unique[start : start + BATCH_GET], within=self._within)
        return items


def key_of(event: Mapping[str, Any]) -> str | None:
    """Read the ordering key of an event."""
    key = attribute(dict(event), "orderingKey", "S")
    return key if isinstance(key, str) and key else None


def may_be_in_line(event: Mapping[str, Any]) -> bool:
    """Tell whether a queue may say more about an event: it has an ordering key, and is QUEUED, or may block its key."""
    return key_of(event) is not None and event.get("status") in (_QUEUED, _FAILED)


def _standing(event_id: str, event: Item, queues: Mapping[str, Any]) -> Standing:
    key = key_of(event)
    item = None if key is None else queues.get(queue_id(key))
    return Standing(event_id=event_id, event=event, queue=None if item is None else read_queue(item), queue_item=item)


def _lengths(pages: Sequence[Item | None]) -> tuple[int, ...]:
    """Count the ids of pages, up to the first page that is missing, because it was worked off meanwhile."""
    there = pages[: pages.index(None)] if None in pages else pages
    return tuple(len(page_ids(page or {})) for page in there)
