"""Arranges a history by events, workers and ordering keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

from dynamodb_outbox.dynamodb.ordering.queue import PAGE_PREFIX, PREFIX
from reliability.checker.life import EventLife
from reliability.checker.lines import AnyWrite, Lines, as_shown
from reliability.checker.times import began
from reliability.history import (
    ClaimRefused,
    EmitAsked,
    FinalState,
    History,
    PageWritten,
    QueueWritten,
    Record,
    ReplyLost,
    RequestFailed,
    Stored,
    WindowWritten,
    WorkerKilled,
    WorkerStarted,
    WorkerStopped,
    Written,
    event_ids_of,
)

R = TypeVar("R")


class Timeline:
    """A history by events and by workers."""

    def __init__(self, history: History, final: FinalState) -> None:
        self.history = history
        self.final = final
        self.lines = Lines()
        self._keys = _keys_of(history, final)
        self._events: dict[str, EventLife] = {}
        self.started: dict[str, WorkerStarted] = {}
        self.ended: dict[str, WorkerStopped | WorkerKilled] = {}
        self.replies_lost_of_unknown: list[ReplyLost] = []
        self.windows: dict[str, list[WindowWritten]] = {}
        self._transaction: list[tuple[str, AnyWrite]] = []
        for record in history:
            if self._transaction and not self._is_same_transaction(record):
                self._end_transaction()
            self._add(record)
        self._end_transaction()

    def _is_same_transaction(self, record: Record) -> bool:
        number = self._transaction[-1][1].transaction
        return bool(number) and isinstance(record, AnyWrite) and record.transaction == number

    def _end_transaction(self) -> None:
        for write in self.lines.written(self._transaction):
            self._life(write.event_id).add(write)
        self._transaction.clear()

    def _add(self, record: Record) -> None:
        if isinstance(record, (QueueWritten, PageWritten)):
            self._transaction.append((record.key, record))
        elif isinstance(record, Written) and record.event_id in self._keys:
            self._transaction.append((self._keys[record.event_id], record))
        else:
            for item_id in event_ids_of(record):
                self._add_to(item_id, record)
        if isinstance(record, WorkerStarted):
            self.started[record.worker] = record
        elif isinstance(record, (WorkerStopped, WorkerKilled)):
            self.ended.setdefault(record.worker, record)
        elif isinstance(record, WindowWritten):
            self.windows.setdefault(record.window, []).append(record)
        elif isinstance(record, ReplyLost) and not record.event_ids:
            self.replies_lost_of_unknown.append(record)

    def _add_to(self, item_id: str, record: Record) -> None:
        """Add a record to the event or to the queue that it is about. Pages have no records."""
        if not item_id.startswith(PREFIX):
            if not item_id.startswith(PAGE_PREFIX):
                self._life(item_id).add(record)
            return
        line = self.lines.of(item_id.removeprefix(PREFIX))
        if isinstance(record, ReplyLost):
            line.replies_lost.append(record)
        elif isinstance(record, RequestFailed):
            line.failed_requests.append(record)
        elif isinstance(record, ClaimRefused):
            line.refused_claims.append(record)

    def _life(self, event_id: str) -> EventLife:
        life = self._events.get(event_id)
        if life is None:
            stored, key = self.final.events.get(event_id), self._keys.get(event_id)
            if key is not None:
                stored = as_shown(stored, self.final.queues.get(key))
            line = None if key is None else self.lines.of(key)
            life = self._events[event_id] = EventLife(event_id, stored, line)
        return life

    def __iter__(self) -> Iterator[EventLife]:
        return iter(self._events.values())

    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: type[R]) -> list[R]:
        """List the records of a kind."""
        return [record for record in self.history if isinstance(record, kind)]

    def records_of(self, event_id: str) -> list[Record]:
        """List the records of an event."""
        life = self._events.get(event_id)
        return [] if life is None else life.records

    def writes_of(self, event_id: str) -> list[Written]:
        """List the changes of an event in the log of the backend."""
        life = self._events.get(event_id)
        return [] if life is None else life.of(Written)

    def killed_at(self, worker: str) -> float:
        """Return when a worker was killed; infinity if it was not killed."""
        end = self.ended.get(worker)
        return end.at if isinstance(end, WorkerKilled) else math.inf

    def ended_at(self, worker: str) -> float:
        """Return when a worker was stopped or killed; infinity if it was not."""
        end = self.ended.get(worker)
        return math.inf if end is None else end.at

    def offset(self, worker: str) -> float:
        """Return the largest offset of a worker's clock; for an unknown worker, the largest offset of all clocks."""
        start = self.started.get(worker)
        if start is not None:
            return abs(start.clock_offset)
        return self.greatest_offset

    def is_taken(self, stored: Stored, moment: float, *, by: str = "") -> bool:
        """Return whether the window of an event in no index was taken before a given time, by any worker or by one.

        Where the log does not tell the order of changes, it is taken if it was ever taken.
        """
        return any(
            write.before is not None
            and write.before.is_open
            and (write.after is None or write.after.token != write.before.token)
            and began(write) <= moment
            and by in ("", write.worker)
            for write in (self.windows.get(stored.window or "", []) if stored.is_unlisted else [])
        )

    @property
    def greatest_offset(self) -> float:
        """Return the largest offset of all clocks."""
        return max((abs(start.clock_offset) for start in self.started.values()), default=0.0)

    def kills_between(self, start: float, end: float) -> list[WorkerKilled]:
        """List the kills within a time."""
        return [kill for kill in self.ended.values() if isinstance(kill, WorkerKilled) and start <= kill.at <= end]


def _keys_of(history: History, final: FinalState) -> dict[str, str]:
    """Return the ordering keys of the events that have one.

    What is stored decides: an emit with a key may have been refused, because its id is that of an event without one.
    """
    asked: dict[str, str | None] = {}
    stored_with = {event_id: stored.key for event_id, stored in final.events.items()}
    for record in history:
        if isinstance(record, EmitAsked) and record.ordering_key:
            asked[record.event_id] = record.ordering_key
        elif isinstance(record, Written) and (stored := record.after or record.before) is not None:
            stored_with[record.event_id] = stored.key or stored_with.get(record.event_id)
    return {event_id: key for event_id, key in (asked | stored_with).items() if key is not None}
