"""Observations of events, one class for each kind of step, and the union `Observation` with those of workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dynamodb_outbox.outcome import FailureReason
from dynamodb_outbox.worker_observations import (
    HandlersDiffer,
    Polled,
    PollingFailed,
    StorageCalled,
    Throttled,
    WindowLost,
    WindowOpened,
    WindowRecovered,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An event is stored. `due_at` (epoch seconds) is None if the event is due at once."""

    event_id: str
    event_type: str
    due_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFailed:
    """An emit failed: the event is not stored, or it is unknown whether it is stored."""

    event_id: str
    event_type: str
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """This worker claimed an event, which was due at `due_at`, until `lease_expires_at` (epoch seconds)."""

    event_id: str
    event_type: str
    attempt: int
    lease_expires_at: float
    due_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRefused:
    """A claim was refused: another worker was quicker, or the index showed an old state. DynamoDB bills the write.

    For an event with an ordering key, `event_id` is the id of the queue of the key.
    """

    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerStarted:
    """A handler was called."""

    event_id: str
    event_type: str
    handler: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerSucceeded:
    """A handler returned, after `seconds`."""

    event_id: str
    event_type: str
    handler: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerFailed:
    """A handler raised, or reached its time limit, after `seconds`."""

    event_id: str
    event_type: str
    handler: str
    attempt: int
    seconds: float
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerCancelled:
    """A handler was cancelled by a stop or a lost lease, after `seconds`: neither a success nor a failure."""

    event_id: str
    event_type: str
    handler: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCompleted:
    """All handlers of an event succeeded, and the event is stored as COMPLETED.

    An event with an ordering key may be COMPLETED without it: a worker that has lost its lease writes that its handlers
    succeeded, and is told that the lease is lost (`LeaseLost`).
    """

    event_id: str
    event_type: str
    attempt: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """An attempt failed; the event is due again after `delay` seconds."""

    event_id: str
    event_type: str
    attempt: int
    delay: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFailed:
    """An event became FAILED, a dead letter, for a `reason`.

    - `rejected`: a handler raised `Reject` or a `no_retry_on` exception, or its backoff gave up.
    - `retries_exhausted`: a handler failed, and no retry was left.
    - `unhandled`: no process had a handler for the type.
    - `lease_expired`: its last worker died or hung. The type is `?`, and the attempt 0.
    - `unreadable`: no handler can get it. The type is `?`, and the attempt 0.
    """

    event_id: str
    event_type: str
    attempt: int
    error: str
    reason: FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReleased:
    """A claim was released; no attempt is counted.

    `unhandled`: this process has no handler for the type. `held`: the type is held, and the event is HELD now.
    """

    event_id: str
    event_type: str
    attempt: int
    unhandled: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlocked:
    """A dead letter blocks its ordering key: the later events wait until it is retried, skipped or discarded."""

    ordering_key: str
    event_id: str
    event_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUnblocked:
    """An ordering key goes on, by a `repair` of the dead letter that blocked it: `retry`, `skip` or `discard`.

    A replacement counts as a discard. With `completed`, no operator repaired the event: another worker had completed it
    after it had lost its lease. Then there may be no `KeyBlocked` before.
    """

    ordering_key: str
    event_id: str
    repair: Literal["retry", "skip", "discard", "completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    """A lease was extended, to `lease_expires_at` (epoch seconds)."""

    event_id: str
    event_type: str
    lease_expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost:
    """A renewal or an outcome was refused: another worker has claimed the event, or the item is gone."""

    event_id: str
    event_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecovered:
    """The lease of an event had run out. The event is PENDING again or, if `failed`, FAILED: no retry was left."""

    event_id: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleFailed:
    """An outcome could not be written. The event is recovered after its lease ends."""

    event_id: str
    event_type: str
    outcome: str
    error: BaseException


Observation = (
    Published
    | PublishFailed
    | Claimed
    | ClaimRefused
    | HandlerStarted
    | HandlerSucceeded
    | HandlerFailed
    | HandlerCancelled
    | EventCompleted
    | RetryScheduled
    | EventFailed
    | EventReleased
    | KeyBlocked
    | KeyUnblocked
    | LeaseRenewed
    | LeaseLost
    | EventRecovered
    | Polled
    | StorageCalled
    | PollingFailed
    | SettleFailed
    | Throttled
    | HandlersDiffer
    | WindowOpened
    | WindowLost
    | WindowRecovered
)
"""The union of all observations."""
