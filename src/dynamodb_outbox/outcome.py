"""The outcomes of an attempt, which settle writes, and the exceptions `RetryLater` and `Reject` of handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.wording import shown

FailureReason = Literal["rejected", "retries_exhausted", "unhandled", "lease_expired", "unreadable"]
"""Why an event became FAILED."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Every handler succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A handler failed, and retries are left. The event is due again `delay` seconds after the settle.

    `error_type` is the class name of the error, and `error_handler` the handler that raised it, if it is known.
    """

    delay: float
    error: str
    handled_by: frozenset[str] = frozenset()
    error_type: str | None = None
    error_handler: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The event becomes FAILED: it was rejected, or no retry is left. See `Retry` for the error."""

    error: str
    handled_by: frozenset[str] = frozenset()
    error_type: str | None = None
    error_handler: str | None = None
    reason: FailureReason = "retries_exhausted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The handlers did not end; no attempt is counted. Any worker may claim the event after `delay` seconds.

    `unhandled_since` (epoch seconds) is when a worker first had no handler for the event; None if this worker has a
    handler.
    """

    handled_by: frozenset[str] = frozenset()
    delay: float = 0.0
    unhandled_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The type of the event is held; no attempt is counted. After a resume the event is due at `due_at`, as before.

    `due_at` is in epoch seconds.
    """

    due_at: float


Outcome = Completed | Retry | Failed | Released | Held
"""How an attempt at an event ends."""

OUTCOME_NAMES = {Completed: "complete", Retry: "retry", Failed: "fail", Released: "release", Held: "hold"}
"""The name of each outcome in a `LeaseLostError` and a `SettleError`."""


LONGEST_DELAY: Final = 10 * 365 * 86_400.0
"""Ten years, in seconds: the longest time that an event can be postponed."""


class RetryLater(Exception):  # noqa: N818 - a signal of a handler, not an error
    """Raise `RetryLater` in a handler, to be called again after `delay` seconds, up to ten years. It counts as a retry.

    Raises `ConfigurationError` for a delay out of range.
    """

    def __init__(self, delay: float, reason: str = "") -> None:
        if not isinstance(delay, (int, float)) or not 0 <= delay <= LONGEST_DELAY:
            raise ConfigurationError(
                f"RetryLater(delay={shown(delay)}): delay must be a number of seconds from 0 to {LONGEST_DELAY:,.0f}"
            )
        self.delay = delay
        self.reason = reason
        super().__init__(f"retry in {delay:g} s{': ' + reason if reason else ''}")


class Reject(Exception):  # noqa: N818 - a signal of a handler, not an error
    """Raise `Reject` in a handler to make the event FAILED now, without further retries."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"rejected: {reason}")
