"""What happens to one event, as those see it who emit and deliver it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Emits


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitAsked:
    """An event was handed to the outbox; `due_at` (epoch seconds) is None for one that is due at once."""

    at: float
    event_id: str
    worker: str = ""
    due_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitAcknowledged:
    """Whoever emitted was told that the event is stored."""

    at: float
    event_id: str
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitRefused:
    """Whoever emitted was told that this emit has not stored the event."""

    at: float
    event_id: str
    error: str
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitUnknown:
    """The emit ended with an error after which the event may be stored."""

    at: float
    event_id: str
    error: str
    worker: str = ""


# Claims and what becomes of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A worker was told that it holds an event. `born`: it was stored as claimed."""

    at: float
    event_id: str
    worker: str
    token: str
    attempt: int
    lease_expires_at: float
    began_at: float | None = None
    born: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRefused:
    """A claim was refused, and billed."""

    at: float
    event_id: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerStarted:
    """A handler was called."""

    at: float
    event_id: str
    worker: str
    token: str
    handler: str
    attempt: int


class Result(StrEnum):
    """How a call of a handler ended. One that is left behind may go on unseen."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEFT_BEHIND = "left behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerEnded:
    """A call of a handler ended. `retry_in` (seconds) and `final`: it asked for that, by `RetryLater` or `Reject`."""

    at: float
    event_id: str
    worker: str
    token: str
    handler: str
    attempt: int
    result: Result
    error: str = ""
    retry_in: float | None = None
    final: bool = False


class Outcome(StrEnum):
    """What was written about a claim. HANDLER_DONE: the transaction of one handler of several."""

    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    HANDLER_DONE = "handler done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A worker was told that an outcome is written; `delay` (seconds) is that of a retry or a release.

    `by_handler`: by the handler's own transaction.
    """

    at: float
    event_id: str
    worker: str
    token: str
    outcome: Outcome
    attempt: int
    delay: float = 0.0
    began_at: float | None = None
    by_handler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleRefused:
    """A worker was told that an outcome is not written: the claim is no longer its own. `by_handler`: see `Settled`."""

    at: float
    event_id: str
    worker: str
    token: str
    outcome: Outcome
    began_at: float | None = None
    by_handler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleFailed:
    """A worker could not write an outcome, or does not know whether it is written; `by_handler` as in `Settled`."""

    at: float
    event_id: str
    worker: str
    token: str
    outcome: Outcome
    error: str
    began_at: float | None = None
    by_handler: bool = False
    maybe_applied: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    """A worker was told that its lease has moved."""

    at: float
    event_id: str
    worker: str
    token: str
    lease_expires_at: float
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost:
    """A renewal was refused, for the claim is not the worker's any more."""

    at: float
    event_id: str
    worker: str
    token: str
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A worker found that a lease had run out. `failed`: no retry was left, and the event is FAILED."""

    at: float
    event_id: str
    worker: str
    failed: bool
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """Somebody asked for a FAILED event to be delivered again, whether or not that was answered."""

    at: float
    event_id: str
    worker: str = ""
