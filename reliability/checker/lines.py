"""The queues of ordering keys, as the log of the backend shows them.

The checker follows each queue from change to change: which event was listed as which, and which left it when. It also
shows each event as its queue describes it while it is at the front, so that the checks of events hold for it, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reliability.checker.times import began
from reliability.history import (
    ClaimRefused,
    PageWritten,
    QueueWritten,
    ReplyLost,
    RequestFailed,
    Stored,
    StoredQueue,
    Written,
)

AnyWrite = Written | QueueWritten | PageWritten


@dataclass(slots=True)
class Entry:
    """One listing of an event in a queue. `place` counts the listings of the queue from its first."""

    event_id: str
    place: int
    listed: QueueWritten
    left: QueueWritten | None = None


@dataclass(slots=True)
class Line:
    """The queue of one key: its listings in order, of which those from `front` on wait."""

    key: str
    entries: list[Entry] = field(default_factory=list[Entry])
    front: int = 0
    stored: StoredQueue | None = None
    claimed: dict[str, Entry] = field(default_factory=dict[str, Entry])
    """The listing that was at the front, by the token of the claim."""
    claimed_by: dict[str, str] = field(default_factory=dict[str, str])
    """The worker that wrote the token of a claim, if the log tells it."""
    claimed_at: dict[str, float] = field(default_factory=dict[str, float])
    """When the token of a claim was written, if the log tells it exactly."""
    writes: list[QueueWritten] = field(default_factory=list[QueueWritten])
    illegal: list[QueueWritten] = field(default_factory=list[QueueWritten])
    """The writes that no transition explains."""
    early: list[Entry] = field(default_factory=list[Entry])
    """The events that left the queue before they had ended."""
    replies_lost: list[ReplyLost] = field(default_factory=list[ReplyLost])
    failed_requests: list[RequestFailed] = field(default_factory=list[RequestFailed])
    refused_claims: list[ClaimRefused] = field(default_factory=list[ClaimRefused])
    replaced: list[tuple[Entry, Entry]] = field(default_factory=list[tuple[Entry, Entry]])
    """The listings at the front whose place another event has taken, each with that of the other event."""
    _pages: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict[tuple[str, int], tuple[str, ...]])

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the events that wait, in order."""
        return tuple(entry.event_id for entry in self.entries[self.front :])

    def add_page(self, write: PageWritten) -> None:
        """Take a page. A page that was deleted stays known, because the log may tell that before the queue changes."""
        if write.ids:
            self._pages[write.epoch, write.number] = write.ids

    def add(self, write: QueueWritten) -> Entry | None:
        """Follow a write; return the listing that left the queue."""
        self.writes.append(write)
        self.stored = write.after
        before, after = self._events_of(write.before), self._events_of(write.after)
        left: Entry | None = None
        if before != self.waiting:
            self._begin_anew(after, write)
        elif after[: len(before)] == before:
            self._list(after[len(before) :], write)
        elif after == before[1:]:
            left = self._leave(write)
            self.front += 1
        elif len(after) == len(before) and after[1:] == before[1:]:
            left, taker = self._leave(write), Entry(after[0], self.front, write)
            self.replaced.append((left, taker))
            self.entries[self.front] = taker
        else:
            self._begin_anew(after, write)
        if write.after is not None and write.after.token is not None and self.front < len(self.entries):
            self.claimed.setdefault(write.after.token, self.entries[self.front])
            if write.worker:
                self.claimed_by.setdefault(write.after.token, write.worker)
                self.claimed_at.setdefault(write.after.token, write.at)
        return left

    def may_be_gone(self, since: float, until: float) -> bool:
        """Tell whether there may have been no queue for a moment."""
        before = [write for write in self.writes if write.at <= since]
        meanwhile = [write for write in self.writes if since <= write.at <= until]
        return not before or any(write.after is None for write in (before[-1], *meanwhile))

    def first_listings(self) -> dict[str, Entry]:
        """Return the first listing of each event."""
        first: dict[str, Entry] = {}
        for entry in sorted([*self.entries, *(left for left, _ in self.replaced)], key=lambda entry: entry.place):
            first.setdefault(entry.event_id, entry)
        return first

    def has_lost(self, token: str, moment: float) -> bool:
        """Tell whether a claim may have lost the queue at a moment, because its lease was over: it was recovered.

        Without a log, every claim may have.
        """
        return not self.writes or self.lease_recovered(token, moment) < math.inf

    def lease_recovered(self, token: str, moment: float) -> float:
        """Return the end of the lease of a claim that was recovered before a moment; infinity if it was not.

        The last renewal decides: a clock that was set back makes it end earlier.
        """
        recoveries = [write for write in self.writes if _is_recovery(write, token) and began(write) <= moment]
        ends = (write.before.sort_key for write in recoveries if write.before is not None)
        return min((end / 1000 for end in ends if end is not None), default=math.inf)

    def _events_of(self, queue: StoredQueue | None) -> tuple[str, ...]:
        if queue is None:
            return ()
        numbers = range(queue.first_page, queue.last_page + 1) if queue.epoch else range(0)
        paged = [event_id for number in numbers for event_id in self._pages.get((queue.epoch, number), ())]
        return (*queue.head, *paged, *queue.ids)

    def _list(self, ids: tuple[str, ...], write: QueueWritten) -> None:
        self.entries += [Entry(each, len(self.entries) + n, write) for n, each in enumerate(ids)]

    def _leave(self, write: QueueWritten) -> Entry:
        left = self.entries[self.front]
        left.left = write
        return left

    def _begin_anew(self, events: tuple[str, ...], write: QueueWritten) -> None:
        self.illegal.append(write)
        self.front = len(self.entries)
        self._list(events, write)


def _is_recovery(write: QueueWritten, token: str) -> bool:
    """Tell whether a change ends a claim without an outcome of its event, and counts its attempt."""
    before, after = write.before, write.after
    if before is None or after is None or before.status != "PROCESSING" or before.token != token:
        return False
    return after.front == before.front and (after.status == "FAILED" or after.retry_count > before.retry_count)


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
        self._deleted: dict[str, float] = {}
        """When somebody last deleted the item of an event."""

    def of(self, key: str) -> Line:
        """Return the queue of a key."""
        return self.by_key.setdefault(key, Line(key))

    def written(self, writes: Sequence[tuple[str, AnyWrite]]) -> list[Written]:
        """Follow the changes of one transaction, or a single change, each with its key.

        Return the changes of the events, each as its queue shows it while it is at the front.
        """
        affected: dict[str, tuple[str, Written | QueueWritten]] = {}
        for key, write in writes:
            if isinstance(write, Written):
                affected[write.event_id] = (key, write)
                self._events[write.event_id] = write.before
            elif isinstance(write, PageWritten):
                self.of(key).add_page(write)
            else:
                fronts = [queue.front for queue in (write.before, write.after) if queue is not None]
                affected |= {front: affected.get(front, (key, write)) for front in fronts}
        before = self._shown({event_id: key for event_id, (key, _) in affected.items()})
        for event_id in self._follow(writes):
            affected.pop(event_id, None)
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

    def _follow(self, writes: Sequence[tuple[str, AnyWrite]]) -> list[str]:
        """Follow writes. Return the events that left a queue, and that their emits are still to list again.

        These were deleted, and stored again after a worker had not found them.
        """
        left: list[tuple[Line, Entry]] = []
        for key, write in writes:
            if isinstance(write, Written):
                self._events[write.event_id] = write.after
                if write.after is None:
                    self._deleted[write.event_id] = write.at
            elif isinstance(write, QueueWritten) and (entry := self.of(key).add(write)) is not None:
                left.append((self.of(key), entry))
        again: list[str] = []
        for line, entry in left:
            if not self._waits(entry.event_id):
                continue
            if entry.listed.at <= self._deleted.get(entry.event_id, -math.inf):
                again.append(entry.event_id)
            else:
                line.early.append(entry)
        return again

    def _waits(self, event_id: str) -> bool:
        stored = self._events.get(event_id)
        return stored is not None and stored.waits

    def _shown(self, keys: Mapping[str, str]) -> dict[str, Stored | None]:
        return {each: as_shown(self._events.get(each), self.of(key).stored) for each, key in keys.items()}


def _is_change(before: Stored | None, after: Stored | None) -> bool:
    if before is None or after is None or before.status != after.status or before.waits or after.waits:
        return before != after
    # It has ended. It does not change when it leaves the queue, or when its queue is claimed once more.
    return False
