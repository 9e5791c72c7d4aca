"""The events of one publish, their division into requests, and the result of each event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any, Final

import anyio

from dynamodb_outbox.claims import EmitClaim
from dynamodb_outbox.dynamodb.emitting.in_flight import InFlight
from dynamodb_outbox.dynamodb.items.codec import Item, attribute, decode_claim, decode_event
from dynamodb_outbox.dynamodb.transport.classify import restated, with_maybe_applied
from dynamodb_outbox.dynamodb.windows.keeper import WindowKeeper
from dynamodb_outbox.dynamodb.windows.window import Entry
from dynamodb_outbox.errors import OutboxError, StorageError, StoredEventError, ThrottledError, UnavailableError
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.port import Numbers

MAX_BATCH_ITEMS: Final = 25
MAX_BATCH_BYTES: Final = 900_000
"""A request may have 16 MB, but aiohttp warns that a body over 1 MiB blocks the event loop."""
CONCURRENT_REQUESTS: Final = 8
"""How many requests of one publish are sent at once. Requests of other publishes do not count."""


class Place(Enum):
    """Whether the queue of an ordering key lists an event that is stored."""

    NEW = auto()
    """This write has stored the event, so that it is not listed yet."""
    UNKNOWN = auto()
    """It was stored before: an emit that ended before it appended the event may have left it unlisted."""
    OVER = auto()
    """It has been delivered, or has no ordering key."""


@dataclass(slots=True, eq=False)
class Put:
    """An event to store, and the state of its write."""

    event: Event
    item: Item
    """The item as it is sent: PENDING at first, claimed when the write begins."""
    size: int
    unpublished: bool
    """Whether the id was never sent before, so that its first write needs no condition."""
    emit_claim: EmitClaim | None
    pending: Item = field(init=False)
    """The item without a claim."""
    is_begun: bool = False
    """Whether its first write has begun."""
    entry: Entry | None = None
    """Its entry in the window, if it is stored there, in no index."""
    is_wanted: bool = True
    """Whether its caller still waits. If not, a write that is under way is not repeated."""
    is_sending: bool = False
    """Whether a task of the publisher writes it, which goes on without its caller."""
    alone: asyncio.Task[None] | None = None
    """The task that writes it and no other event."""
    maybe_stored: bool = False
    """Whether an earlier write of this event was not answered."""
    place: Place = Place.NEW
    """The place of an event with an ordering key, as far as its put tells."""
    key: str | None = field(init=False)
    """The ordering key of the stored event. If the id was stored before, it may differ from the key that was sent."""
    is_done: bool = False
    error: OutboxError | None = None
    queued_at: float = 0.0
    written: asyncio.Future[None] | None = None
    """Done once a put that shares a request has its result."""

    def __post_init__(self) -> None:
        self.pending = self.item
        self.key = self.event.ordering_key

    @property
    def is_ordered(self) -> bool:
        """Whether the event has an ordering key. Then it is published once the queue of the key lists it."""
        return self.event.ordering_key is not None

    @property
    def is_given_up(self) -> bool:
        """Whether its caller gave up, perhaps in this step of the event loop."""
        return not self.is_wanted or (self.written is not None and self.written.cancelled())

    def note_stored(self, stored: Any) -> None:
        """Note the item that has refused the event, because its id is stored."""
        key = waiting_key(stored)
        self.place = Place.OVER if key is None else Place.UNKNOWN
        self.key = key or self.key


class PublishResult:
    """The results of the events of one publish, or of one shared request. Each caller gets its result at once."""

    def __init__(self, in_flight: InFlight, *, keeper: WindowKeeper, numbers: Numbers) -> None:
        self.numbers: Numbers = numbers
        self.given_up: ThrottledError | UnavailableError | None = None
        """Why an event could not be stored until its deadline. The events that still wait then need no attempt."""
        self._in_flight = in_flight
        self._keeper = keeper

    # Most publishes store one event, and need no limiter.

    @cached_property
    def batches(self) -> anyio.CapacityLimiter:
        """The limit of batches under way."""
        return anyio.CapacityLimiter(CONCURRENT_REQUESTS)

    @cached_property
    def puts(self) -> anyio.CapacityLimiter:
        """The limit of single puts under way."""
        return anyio.CapacityLimiter(CONCURRENT_REQUESTS)

    def stored(self, *puts: Put) -> None:
        """Note that events are stored. The handlers of events claimed on emit may start."""
        for put in puts:
            was_done = put.is_done
            self._end(put, None, is_held=True)
            # An event of a window whose caller gave up is left to the window, which makes it PENDING.
            if put.emit_claim is not None and not (was_done and put.entry is not None):
                lease = None if put.entry is None else put.entry.window.lease
                put.emit_claim.claimed(decode_claim(put.item, numbers=self.numbers, shared_lease=lease))

    def taken_over(self, put: Put) -> None:
        """Note that an event is stored in the index, where another worker can claim it or has claimed it."""
        self._end(put, None)

    def leave_window(self, put: Put) -> None:
        """Note that an event was not stored in its window; the next write stores it in the index."""
        if put.entry is not None:
            self._keeper.not_stored(put.entry)
            put.entry = None

    def refused_by_tombstone(self, put: Put) -> None:
        """Note that a recovery has passed the id of an event: it was not and will not be stored in its window."""
        self.leave_window(put)
        put.maybe_stored = False
        self._keeper.refused_by_tombstone()

    def fail(self, puts: Iterable[Put], error: OutboxError) -> None:
        """Note why events could not be stored."""
        for put in puts:
            # A batch that was sent before may have stored the event, though this write did not.
            if put.maybe_stored and isinstance(error, StorageError):
                self._end(put, with_maybe_applied(error))
            else:
                self._end(put, error)
        if isinstance(error, (ThrottledError, UnavailableError)):
            self.given_up = error

    def fail_unsent(self, puts: Iterable[Put], error: ThrottledError | UnavailableError) -> None:
        """Note that events were not sent, because other events of the publish failed."""
        self.fail(puts, restated(error, maybe_applied=False))

    def abandon(self, puts: Iterable[Put]) -> None:
        """Note that no caller waits any longer for the events without a result."""
        for put in puts:
            if not put.is_done:
                reason = "its caller gave up"
                self._end(put, UnavailableError(operation="an emit", attempts=1, reason=reason, maybe_applied=True))

    def _end(self, put: Put, error: OutboxError | None, *, is_held: bool = False) -> None:
        if put.is_done:
            return
        put.is_done, put.error = True, error
        if not put.is_ordered:
            self._in_flight.leave(put.event.id)
        if put.entry is not None:
            if is_held:
                self._keeper.stored(put.entry)
            elif isinstance(error, StorageError) and error.maybe_applied:
                self._keeper.maybe_stored(put.entry)
            else:
                self._keeper.not_stored(put.entry)
        if put.written is not None and not put.written.done():
            put.written.set_result(None)


def chunks_of(puts: Sequence[Put]) -> list[list[Put]]:
    """Divide events among requests."""
    chunks: list[list[Put]] = []
    size = 0
    for put in puts:
        if not chunks or len(chunks[-1]) == MAX_BATCH_ITEMS or size + put.size > MAX_BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(put)
        size += put.size
    return chunks


def is_same_event(sent: Item, stored: Any) -> bool:
    """Tell whether the stored item is the sent event. Attributes that delivery changes do not count."""
    return isinstance(stored, dict) and all(stored.get(name) == sent[name] for name in ("id", "type", "occurredAt"))


def is_same_claim(sent: Item, stored: Mapping[str, Any]) -> bool:
    """Tell whether the stored claim is the sent claim; true if the event was sent as PENDING."""
    return "claimToken" not in sent or stored.get("claimToken") == sent["claimToken"]


def waiting_key(stored: Any) -> str | None:
    """Return the ordering key of a stored event that its queue may not list: of one that is QUEUED.

    The emit that finds it may have another key, and may be the last one of the id, if it ignores duplicates.
    """
    if not isinstance(stored, dict) or stored.get("status") != {"S": EventStatus.QUEUED.value}:
        return None
    key = attribute(stored, "orderingKey", "S")
    return key if isinstance(key, str) and key else None


def stored_event(item: Any, *, numbers: Numbers) -> Event | None:
    """Read the stored event with the id of a refused event; None if it is unreadable or not in the response."""
    if not isinstance(item, dict):
        return None
    try:
        return decode_event(item, numbers=numbers)
    except (StoredEventError, KeyError, TypeError):
        return None
