"""Records of workers, of the backend, and of its stored items."""

from __future__ import annotations

from dataclasses import dataclass

# Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """A worker was started, with these options (seconds); `clock_offset` is what its clock is ahead at most."""

    at: float
    worker: str
    lease: float
    poll_interval: float
    max_retries: int
    base_backoff: float
    clock_offset: float = 0.0
    unhandled_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped:
    """A worker has stopped.

    `tasks` names the remaining tasks of the library, `connections` counts the open connections.
    """

    at: float
    worker: str
    tasks: tuple[str, ...] = ()
    connections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKilled:
    """A worker is gone, with all that it had not written."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSuspended:
    """A worker stands still."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResumed:
    """A worker that stood still goes on."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The resources of a worker process at a given time: memory in bytes, tasks, and connections in use."""

    at: float
    worker: str
    memory: int
    tasks: int
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReported:
    """An error was reported to a worker's `on_error`."""

    at: float
    worker: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something that a worker's own code wants to be known, such as a handler's effect."""

    at: float
    worker: str
    what: str
    event_id: str = ""


# The backend, and the faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLost:
    """The reply to a request got lost; `applied`: whether the backend carried it out, None if nobody knows."""

    at: float
    operation: str
    event_ids: tuple[str, ...]
    worker: str = ""
    applied: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoringRequest:
    """A request that stores events was under way from `began_at` to `at`: then it was answered, or given up.

    `error` is the code of the answer, or the kind of the exception; it is empty for a success.
    """

    at: float
    began_at: float
    operation: str
    event_ids: tuple[str, ...]
    worker: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBegan:
    """A fault that lasts has begun; `name` is its own, `kind` what it is one of."""

    at: float
    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEnded:
    """A fault ended. A momentary fault has only this record."""

    at: float
    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDeleted:
    """Somebody deleted a stored event on purpose: its time to live was over, or by hand."""

    at: float
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMoved:
    """Somebody changed by hand the time that an event waits for: when it is due, or when its lease ends."""

    at: float
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsCounted:
    """The number of requests of an operation, and of their events, by one worker or by all workers."""

    at: float
    operation: str
    calls: int
    events: int = 0
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An event as it is in the table; `indexed`: the index holds it.

    `sort_key` and `unhandled_since` are epoch milliseconds.
    """

    event_id: str
    status: str
    retry_count: int
    sort_key: int | None
    token: str | None = None
    handled_by: tuple[str, ...] = ()
    indexed: bool = True
    unhandled_since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A change of an item in the log of the backend, in the true order; a lost response cannot hide it.

    `before` is None for a new item, `after` is None for a deleted item; `worker` is the caller, if it is known. With a
    coarse clock of the backend, the change came between `began_at` and `at`.
    """

    at: float
    event_id: str
    before: Stored | None
    after: Stored | None
    worker: str = ""
    began_at: float | None = None
