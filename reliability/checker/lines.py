"""The queues of ordering keys, as the log of the backend shows them.

The checker follows each queue from change to change: which event was listed as which, and which left it when. It also
shows each event as its queue describes it while it is at the front, so that the checks of events hold for it, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from reliability.history import ClaimRefused, QueueWritten, Recovered, ReplyLost, Stored, StoredQueue, Written

_NO_QUEUE: Final = StoredQueue(key="", status="", ids=())


@dataclass(slots=True)
class Entry:
    """One listing of an event in a queue. `place` counts the listings of the queue from its first."""

    event_id: str
    place: int
    listed: QueueWritten
    left: QueueWritten | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """What a write does to the events of a queue: it takes the front, or puts another one there, or appends."""

    takes: bool = False
    replaces: bool = False
    added: tuple[str, ...] = ()


@dataclass(slots=True)
class Line:
    """The queue of one key: its listings in order, of which those from `front` on wait."""

    key: str
    entries: list[Entry] = field(default_factory=list[Entry])
    front: int = 0
    stored: StoredQueue | None = None
    claimed: dict[str, Entry] = field(default_factory=dict[str, Entry])
    """The listing that was at the front, by the token of the claim."""
    writes: list[QueueWritten] = field(default_factory=list[QueueWritten])
    illegal: list[QueueWritten] = field(default_factory=list[QueueWritten])
    """The writes that no transition explains."""
    early: list[Entry] = field(default_factory=list[Entry])
    """The events that left the queue before they had ended."""
    replies_lost: list[ReplyLost] = field(default_factory=list[ReplyLost])
    refused_claims: list[ClaimRefused] = field(default_factory=list[ClaimRefused])
    recovered: list[Recovered] = field(default_factory=list[Recovered])
    _pages: deque[tuple[str, ...]] = field(default_factory=deque[tuple[str, ...]])

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the events that wait, in order."""
        return tuple(entry.event_id for entry in self.entries[self.front :])

    def add(self, write: QueueWritten) -> Entry | None:
        """Follow a write; return the listing that left the queue."""
        self.writes.append(write)
        self.stored = write.after
        change = self._change(write.before or _NO_QUEUE, write.after)
        left: Entry | None = None
        if change is None:
            self.illegal.append(write)
            self._begin_anew(write)
        else:
            if change.takes:
                left = self.entries[self.front]
                left.left = write
                self.front += 1
            if change.replaces:
                left = self.entries[self.front]
                left.left = write
                self.entries[self.front] = Entry(write.after.front if write.after else "", self.front, write)
            self._list(change.added, write)
        if write.after is not None and write.after.token is not None and self.front < len(self.entries):
            self.claimed.setdefault(write.after.token, self.entries[self.front])
        return left

    def _list(self, ids: tuple[str, ...], write: QueueWritten) -> None:
        self.entries += [Entry(each, len(self.entries) + n, write) for n, each in enumerate(ids)]

    def _begin_anew(self, write: QueueWritten) -> None:
        self.front = len(self.entries)
        self._pages.clear()
        self._list(() if write.after is None else write.after.head + write.after.ids, write)

    def _change(self, before: StoredQueue, after: StoredQueue | None) -> _Change | None:
        """Work out what a write does to the events; None if no transition does that."""
        if after is None:
            return _Change(takes=True) if len(before.ids) == 1 and not before.head else None
        if (after.epoch, after.last_page) != (before.epoch, before.last_page):
            return self._spilled(before, after)
        if after.first_page != before.first_page:
            return self._refilled(before, after)
        if before.ids == after.ids and before.head == after.head:
            return _Change()
        if bool(before.head) != bool(after.head):
            return self._split_or_joined(before, after)
        return _of_lists(before, after)

    def _spilled(self, before: StoredQueue, after: StoredQueue) -> _Change | None:
        if not before.head or after.head != before.head or not before.ids or not after.ids:
            return None
        self._pages.append(before.ids)
        return _Change(added=after.ids)

    def _refilled(self, before: StoredQueue, after: StoredQueue) -> _Change | None:
        page = self._pages.popleft() if self._pages else ()
        fits = after.first_page == before.first_page + 1 and len(before.head) == 1 and after.ids == before.ids
        return _Change(takes=True) if fits and after.head == page else None

    def _split_or_joined(self, before: StoredQueue, after: StoredQueue) -> _Change | None:
        if after.head:
            return _Change(added=after.ids) if after.head == before.ids and after.ids else None
        fits = len(before.head) == 1 and after.ids == before.ids and not self._pages
        return _Change(takes=True) if fits else None


def _of_lists(before: StoredQueue, after: StoredQueue) -> _Change | None:
    """Work out what a write does that neither makes nor takes a head or a page."""
    if after.head == before.head and after.ids[: len(before.ids)] == before.ids:
        return _Change(added=after.ids[len(before.ids) :])
    (front, rest), (new_front, new_rest) = [
        (queue.head, queue.ids) if queue.head else (queue.ids, ()) for queue in (before, after)
    ]
    if rest != new_rest or not new_front:
        return None
    if new_front == front[1:]:
        return _Change(takes=True)
    return _Change(replaces=True) if len(front) == len(new_front) and front[1:] == new_front[1:] else None


def as_shown(stored: Stored | None, queue: StoredQueue | None) -> Stored | None:
    """Return the item of an event with what its queue says of its delivery, while it is at the front."""
    if stored is None or queue is None or queue.front != stored.event_id:
        return stored
    # An event that was set aside, and came back to the line, keeps the names of the handlers that are done.
    handled_by = tuple(sorted({*stored.handled_by, *queue.handled_by}))
    if not stored.waits:
        # It has ended, and is still to be taken from the queue.
        token = None if stored.status == "DISCARDED" else queue.token
        retries = queue.retry_count if stored.status == "COMPLETED" else stored.retry_count
        return replace(stored, token=token, handled_by=handled_by, retry_count=retries)
    return replace(
        stored,
        status=queue.status,
        retry_count=queue.retry_count,
        sort_key=queue.sort_key,
        token=queue.token,
        handled_by=handled_by,
        indexed=queue.indexed,
        unhandled_since=queue.unhandled_since,
    )


class Lines:
    """All queues, and the items of their events."""

    def __init__(self) -> None:
        self.by_key: dict[str, Line] = {}
        self._events: dict[str, Stored | None] = {}

    def of(self, key: str) -> Line:
        """Return the queue of a key."""
        return self.by_key.setdefault(key, Line(key))

    def written(self, writes: Sequence[tuple[str, Written | QueueWritten]]) -> list[Written]:
        """Follow the changes of one transaction, or a single change, each with its key.

        Return the changes of the events, each as its queue shows it while it is at the front.
        """
        affected: dict[str, tuple[str, Written | QueueWritten]] = {}
        for key, write in writes:
            if isinstance(write, Written):
                affected[write.event_id] = (key, write)
                self._events[write.event_id] = write.before
            else:
                fronts = [queue.front for queue in (write.before, write.after) if queue is not None]
                affected |= {front: affected.get(front, (key, write)) for front in fronts}
        before = self._shown({event_id: key for event_id, (key, _) in affected.items()})
        left: list[tuple[Line, Entry]] = []
        for key, write in writes:
            if isinstance(write, Written):
                self._events[write.event_id] = write.after
            elif (entry := self.of(key).add(write)) is not None:
                left.append((self.of(key), entry))
        for line, entry in left:
            stored = self._events.get(entry.event_id)
            if stored is not None and stored.waits:
                line.early.append(entry)
        after = self._shown({event_id: key for event_id, (key, _) in affected.items()})
        return [
            Written(
                at=write.at,
                event_id=event_id,
                before=before[event_id],
                after=after[event_id],
                worker=write.worker,
                began_at=write.began_at,
            )
            for event_id, (_, write) in affected.items()
            if _is_change(before[event_id], after[event_id])
        ]

    def _shown(self, keys: Mapping[str, str]) -> dict[str, Stored | None]:
        return {each: as_shown(self._events.get(each), self.of(key).stored) for each, key in keys.items()}


def _is_change(before: Stored | None, after: Stored | None) -> bool:
    if before is None or after is None or before.status != after.status or before.waits or after.waits:
        return before != after
    # It has ended. It does not change when it leaves the queue, or when its queue is claimed once more.
    return False
