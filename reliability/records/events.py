"""Records of one event, as its emitters and workers see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Emits


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitAsked:
    """An event was passed to the outbox. `due_at` (epoch seconds) is None if the event is due at once.

    The records of one call have the same `call` and `worker`, and `number` is the place of the event in the call.
    `replaces` is the id of the event whose place it takes.
    """

    at: float
    event_id: str
    worker: str = ""
    due_at: float | None = None
    event_type: str = ""
    ordering_key: str = ""
    call: int = 0
    number: int = 0
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitAcknowledged:
    """An emit returned: its caller knows that the event is stored."""

    at: float
    event_id: str
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitRefused:
    """An emit failed: its caller knows that this emit has not stored the event."""

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


# Claims and their results


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A worker holds an event. `on_emit`: the event was stored already claimed."""

    at: float
    event_id: str
    worker: str
    token: str
    attempt: int
    lease_expires_at: float
    began_at: float | None = None
    on_emit: bool = False


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
    """The end of a call of a handler. An abandoned handler may still run without further records."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEFT_BEHIND = "left behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerEnded:
    """A call of a handler ended. `retry_in` (seconds) and `final` are set by `RetryLater` and `Reject`."""

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
    """An outcome of a claim was written. HANDLER_DONE is the transaction of one of several handlers."""

    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    RELEASE = "release"
    HOLD = "hold"
    HANDLER_DONE = "handler done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An outcome is written, and its worker knows. `delay` (seconds) is the delay of a retry or a release.

    `by_handler`: the transaction of the handler wrote it.
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
    """An outcome was refused, because the worker no longer holds the claim. `by_handler` as in `Settled`."""

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
    """A lease was renewed, and its worker knows."""

    at: float
    event_id: str
    worker: str
    token: str
    lease_expires_at: float
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost:
    """A renewal was refused, because the worker no longer holds the claim."""

    at: float
    event_id: str
    worker: str
    token: str
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A worker recovered an event with an expired lease. `failed`: no retry was left, and the event is FAILED."""

    at: float
    event_id: str
    worker: str
    failed: bool
    began_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """The redrive of a FAILED event was requested, with or without a response."""

    at: float
    event_id: str
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded:
    """The discard of an event was requested, with or without a response."""

    at: float
    event_id: str
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """It was requested to set an event aside that blocks its ordering key, with or without a response."""

    at: float
    event_id: str
    worker: str = ""
