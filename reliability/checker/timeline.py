"""Arranges a history by events, workers and calls of handlers."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from dynamodb_outbox.dynamodb.ordering.queue import PAGE_PREFIX, PREFIX
from reliability.checker.lines import AnyWrite, Line, Lines, as_shown
from reliability.checker.times import began
from reliability.history import (
    Claimed,
    ClaimRefused,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    FinalState,
    HandlerEnded,
    HandlerStarted,
    History,
    ItemDeleted,
    LeaseRenewed,
    PageWritten,
    QueueWritten,
    Record,
    ReplyLost,
    RequestFailed,
    Result,
    Stored,
    WindowWritten,
    WorkerKilled,
    WorkerStarted,
    WorkerStopped,
    Written,
    event_ids_of,
)

R = TypeVar("R")

STORING: Final = frozenset(
    {"put_item", "batch_write_item", "insert", "append", "PutItem", "BatchWriteItem", "Insert", "Append"}
)
"""The requests that store events, without transactions: inserts are BatchExecuteStatements, appends are UpdateItems."""
ALL_STORING: Final = STORING | {"transact_write_items", "TransactWriteItems"}
"""The requests that store events, with transactions."""
ANSWERS = (EmitAcknowledged, EmitRefused, EmitUnknown)
"""The answers to emits."""


@dataclass(slots=True)
class Execution:
    """A call of a handler; `ended` is None if the end is not recorded."""

    started: HandlerStarted
    place: int
    ended: HandlerEnded | None = None
    end_place: float = math.inf
    abandoned_at: float = math.inf
    """When its worker told that it had left the call behind; infinity if it has not."""


@dataclass(slots=True)
class EventLife:
    """The records of one event, its final item, and the queue of its ordering key.

    The changes and the final item of an event with a key are as its queue shows them while it is at the front.
    """

    event_id: str
    stored: Stored | None
    line: Line | None = None
    records: list[Record] = field(default_factory=list[Record])
    _by_kind: dict[type, list[Any]] = field(default_factory=dict[type, list[Any]])

    def add(self, record: Record) -> None:
        """Add the next record."""
        self.records.append(record)
        self._by_kind.setdefault(type(record), []).append(record)

    def of(self, kind: type[R]) -> list[R]:
        """List the records of a kind."""
        return cast("list[R]", self._by_kind.get(kind, []))

    @property
    def event_type(self) -> str:
        """The type of the event; empty if its emit is not recorded."""
        return next((emit.event_type for emit in self.of(EmitAsked)), "")

    @property
    def replies_lost(self) -> list[ReplyLost]:
        """The lost responses to requests about the event, or about the queue of its key."""
        return self.of(ReplyLost) + ([] if self.line is None else self.line.replies_lost)

    @property
    def has_log(self) -> bool:
        """Whether the log of the backend tells of each change of the item who made it, and when."""
        return any(write.worker for write in self.of(Written))

    def states(self, status: str, *, until: float) -> bool:
        """Return whether the item had a status, according to the log, at a given time or before."""
        return any(write.after and write.after.status == status and began(write) <= until for write in self.of(Written))

    def claims(self) -> dict[str, Claimed]:
        """Map tokens to their claims."""
        return {claim.token: claim for claim in self.of(Claimed)}

    def lease_ends(self, token: str, *, before: float) -> float:
        """Return the end of a lease by the holder's clock, from the responses before a given time."""
        ends = [claim.lease_expires_at for claim in self.of(Claimed) if claim.token == token]
        ends += [renewal.lease_expires_at for renewal in self.of(LeaseRenewed) if _is_of(renewal, token, before)]
        return max(ends, default=-math.inf)

    def begins_anew(self, since: float, until: float) -> bool:
        """Return whether the item was deleted on purpose in a period, and an emit may have stored it again."""
        deletions = [deletion.at for deletion in self.of(ItemDeleted)]
        return any(since <= at <= until and self.may_be_stored_after(at, until) for at in deletions)

    def may_be_stored_after(self, moment: float, until: float) -> bool:
        """Return whether an emit was requested in a period, or an earlier emit may still have been in flight."""
        if any(moment <= emit.at <= until for emit in self.of(EmitAsked)) or self.has_emit_under_way(moment):
            return True
        return any(reply.operation in ALL_STORING and reply.at <= until for reply in self.of(ReplyLost))

    def has_emit_under_way(self, moment: float) -> bool:
        """Return whether an emit had been requested at a given time, and was not answered."""
        asked = sum(emit.at <= moment for emit in self.of(EmitAsked))
        return asked > sum(isinstance(record, ANSWERS) and record.at <= moment for record in self.records)

    def executions(self) -> list[Execution]:
        """Pair the starts of handlers with their ends, in order, for each token and handler."""
        running: defaultdict[tuple[str, str, str], deque[Execution]] = defaultdict(deque)
        executions: list[Execution] = []
        for place, record in enumerate(self.records):
            if isinstance(record, HandlerStarted):
                execution = Execution(record, place)
                executions.append(execution)
                running[record.worker, record.token, record.handler].append(execution)
            elif isinstance(record, HandlerEnded):
                key = (record.worker, record.token, record.handler)
                if record.result is Result.LEFT_BEHIND:
                    for execution in executions:
                        started = execution.started
                        if (started.worker, started.token, started.handler) == key:
                            execution.abandoned_at = min(record.at, execution.abandoned_at)
                elif running[key]:
                    execution = running[key].popleft()
                    execution.ended, execution.end_place = record, place
        return executions


def _is_of(renewal: LeaseRenewed, token: str, before: float) -> bool:
    return renewal.token == token and renewal.at <= before


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
