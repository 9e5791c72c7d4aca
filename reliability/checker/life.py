"""The life of one event: its records, its final item, and the calls of its handlers."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from reliability.checker.lines import Line
from reliability.checker.times import began
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    HandlerEnded,
    HandlerStarted,
    ItemDeleted,
    LeaseRenewed,
    Record,
    ReplyLost,
    Result,
    Stored,
    Written,
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
        """Return the end of a lease by the holder's clock, from the last response before a given time.

        A clock that was set back makes a lease end earlier with its next renewal.
        """
        ends = [claim.lease_expires_at for claim in self.of(Claimed) if claim.token == token]
        ends += [renewal.lease_expires_at for renewal in self.of(LeaseRenewed) if _is_of(renewal, token, before)]
        return ends[-1] if ends else -math.inf

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
