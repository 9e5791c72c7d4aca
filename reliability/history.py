"""Histories: one record for each step of an event, a worker or the backend, and a final state.

`at` is the true time of a record (epoch seconds) by the clock of the checker, independent of the clocks of workers.
`began_at` is the start of the call whose response came at `at`: the backend acted between the two. `worker` names one
life of a worker: a restarted worker gets a new name. Times within the data, such as `lease_expires_at`, are times of
the worker's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from reliability.records.events import (
    Claimed,
    ClaimRefused,
    Discarded,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    HandlerEnded,
    HandlerStarted,
    LeaseLost,
    LeaseRenewed,
    Outcome,
    Recovered,
    Redriven,
    Result,
    Settled,
    SettleFailed,
    SettleRefused,
    Skipped,
)
from reliability.records.queues import PageWritten, QueueWritten, StoredQueue
from reliability.records.surroundings import (
    CallsCounted,
    ErrorReported,
    FaultBegan,
    FaultEnded,
    HoldAsked,
    HoldStored,
    HoldsUnread,
    ItemDeleted,
    Noted,
    ReplyLost,
    RequestFailed,
    ResumeAsked,
    Sampled,
    Stored,
    StoringRequest,
    TimeMoved,
    WorkerKilled,
    WorkerResumed,
    WorkerStarted,
    WorkerStopped,
    WorkerSuspended,
    Written,
)
from reliability.records.windows import StoredWindow, WindowWritten

__all__ = [
    "WORKERS_LIFE",
    "CallsCounted",
    "ClaimRefused",
    "Claimed",
    "Discarded",
    "EmitAcknowledged",
    "EmitAsked",
    "EmitRefused",
    "EmitUnknown",
    "ErrorReported",
    "FaultBegan",
    "FaultEnded",
    "FinalState",
    "HandlerEnded",
    "HandlerStarted",
    "History",
    "HoldAsked",
    "HoldStored",
    "HoldsUnread",
    "ItemDeleted",
    "LeaseLost",
    "LeaseRenewed",
    "Noted",
    "Outcome",
    "PageWritten",
    "QueueWritten",
    "Record",
    "Recovered",
    "Redriven",
    "ReplyLost",
    "RequestFailed",
    "Result",
    "ResumeAsked",
    "Sampled",
    "SettleFailed",
    "SettleRefused",
    "Settled",
    "Skipped",
    "Stored",
    "StoredQueue",
    "StoredWindow",
    "StoringRequest",
    "TimeMoved",
    "WindowWritten",
    "WorkerKilled",
    "WorkerResumed",
    "WorkerStarted",
    "WorkerStopped",
    "WorkerSuspended",
    "Written",
    "event_ids_of",
    "shortened",
    "text_of",
]

Record = (
    EmitAsked
    | EmitAcknowledged
    | EmitRefused
    | EmitUnknown
    | Claimed
    | ClaimRefused
    | HandlerStarted
    | HandlerEnded
    | Settled
    | SettleRefused
    | SettleFailed
    | LeaseRenewed
    | LeaseLost
    | Recovered
    | Redriven
    | Discarded
    | Skipped
    | WorkerStarted
    | WorkerStopped
    | WorkerKilled
    | WorkerSuspended
    | WorkerResumed
    | ErrorReported
    | Noted
    | Sampled
    | ReplyLost
    | RequestFailed
    | StoringRequest
    | FaultBegan
    | FaultEnded
    | ItemDeleted
    | TimeMoved
    | CallsCounted
    | Written
    | WindowWritten
    | QueueWritten
    | PageWritten
    | HoldAsked
    | HoldStored
    | ResumeAsked
    | HoldsUnread
)

History = Sequence[Record]
"""Records in the order of their times. The records of one worker, and of the backend, are in their true order."""

WORKERS_LIFE: Final = (WorkerStarted, WorkerStopped, WorkerKilled, WorkerSuspended, WorkerResumed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalState:
    """The final state: the items by event id, the open windows by name, and the workers that have not ended.

    `queues` has the queues by their ordering keys, and `stray_pages` the pages that no queue has.
    """

    at: float
    events: Mapping[str, Stored]
    left: tuple[str, ...] = ()
    windows: Mapping[str, StoredWindow] = field(default_factory=dict[str, StoredWindow])
    queues: Mapping[str, StoredQueue] = field(default_factory=dict[str, StoredQueue])
    stray_pages: tuple[str, ...] = ()


def event_ids_of(record: Record) -> tuple[str, ...]:
    """Return the events that a record is about; records of workers and faults have no events."""
    if isinstance(record, (ReplyLost, RequestFailed, StoringRequest)):
        return record.event_ids
    event_id: str | None = getattr(record, "event_id", None)
    return (event_id,) if event_id else ()


def shortened(history: History, *, event_id: str | None) -> list[Record]:
    """Keep the records about one event, about the lives of workers, and about faults."""
    kept = [record for record in history if event_id in event_ids_of(record)]
    if event_id is not None and not kept:
        return []
    first = kept[0].at if kept else float("-inf")
    last = kept[-1].at if kept else float("inf")
    around = (*WORKERS_LIFE, FaultBegan, FaultEnded)
    return [
        record
        for record in history
        if event_id in event_ids_of(record) or (isinstance(record, around) and first <= record.at <= last)
    ]


def text_of(history: Iterable[Record]) -> str:
    """Format records for people: the time since the first record, the kind of the record, and its fields."""
    lines: list[str] = []
    start: float | None = None
    for record in history:
        start = record.at if start is None else start
        facts = [
            f"{member.name}={getattr(record, member.name)!s}"
            for member in fields(record)
            if member.name != "at" and getattr(record, member.name) not in (None, "", ())
        ]
        lines.append(f"{record.at - start:10.3f}  {type(record).__name__:16} {' '.join(facts)}")
    return "\n".join(lines)
