"""Records of workers, of the backend, and of its stored items."""

from __future__ import annotations

from dataclasses import dataclass

# Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """A worker started, with these options (seconds). `clock_offset` is the largest offset of its clock.

    `skips_failed`: a dead letter does not block its ordering key.
    """

    at: float
    worker: str
    lease: float
    poll_interval: float
    max_retries: int
    base_backoff: float
    clock_offset: float = 0.0
    unhandled_timeout: float | None = None
    skips_failed: bool = False


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
    """A worker was killed, and its unwritten records are lost."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSuspended:
    """A worker stands still."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResumed:
    """A suspended worker continues."""

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
    """A note from the code around a worker, such as the effect of a handler."""

    at: float
    worker: str
    what: str
    event_id: str = ""


# The backend, and the faults


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLost:
    """The response to a request was lost. `applied`: whether the backend applied the request, None if unknown."""

    at: float
    operation: str
    event_ids: tuple[str, ...]
    worker: str = ""
    applied: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """A request, or one of its statements, was answered with an error, so that the library or the SDK repeats it.

    If the SDK repeats it, the library cannot tell whether the first try was applied.
    """

    at: float
    operation: str
    event_ids: tuple[str, ...]
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoringRequest:
    """A request that stores events, or reads whether they are stored, was in flight from `began_at` to `at`.

    Then it was answered or abandoned.

    `error` is the code of the response, or the type of the exception; it is empty for a success.
    """

    at: float
    began_at: float
    operation: str
    event_ids: tuple[str, ...]
    worker: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBegan:
    """A lasting fault began; `name` identifies it, `kind` is its kind."""

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
    """A stored event was deleted on purpose, by its time to live or by hand."""

    at: float
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMoved:
    """The time of an event was changed by hand: its due time, or the end of its lease."""

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
    """The item of an event. `indexed`: the index contains it. `window`: the window that it was stored in.

    `sort_key` and `unhandled_since` are epoch milliseconds. `key` is its ordering key. `waits`: it waits in the
    queue of the key; while it is at the front, the other fields are those of the queue.
    """

    event_id: str
    status: str
    retry_count: int
    sort_key: int | None
    token: str | None = None
    handled_by: tuple[str, ...] = ()
    indexed: bool = True
    unhandled_since: int | None = None
    window: str | None = None
    key: str | None = None
    waits: bool = False

    @property
    def is_unlisted(self) -> bool:
        """Whether it is claimed and in no index, so that only its window finds it."""
        return self.window is not None and self.status == "PROCESSING" and self.sort_key is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A change of an item in the log of the backend, in the true order; a lost response cannot hide it.

    `before` is None for a new item, `after` is None for a deleted item; `worker` is the caller, if it is known. With a
    coarse clock of the backend, the change came between `began_at` and `at`. The changes of one transaction have the
    same number, which is 0 if it is not known.
    """

    at: float
    event_id: str
    before: Stored | None
    after: Stored | None
    worker: str = ""
    began_at: float | None = None
    transaction: int = 0


# Holds


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAsked:
    """A hold of a type was requested, with or without a response; see `HoldStored`, whose `began_at` is this time."""

    at: float
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStored:
    """A hold of a type is stored, and its caller knows; `type` is empty for all types. `until` is in epoch seconds."""

    at: float
    type: str
    until: float | None = None
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAsked:
    """The end of a hold was requested, with or without a response."""

    at: float
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsUnread:
    """A worker could not read the holds."""

    at: float
    worker: str
