"""Claims: events that a worker holds, how they are stored already claimed, and what a recovery found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dynamodb_outbox.errors import RecoveryError
from dynamodb_outbox.event import Event
from dynamodb_outbox.shared_lease import SharedLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An event that this worker holds until `lease_expires_at` (epoch seconds).

    - `token` identifies the claim; every write about the claim requires it.
    - `attempt` counts from 1.
    - `due_at` (epoch seconds) is when the event became due, if the adapter knows it.
    - `handled_by` has the names of the handlers that succeeded in earlier attempts.
    - `last_error` is the text of the error of the last attempt.
    - `error_type` and `error_handler` are the class name of that error and the handler that raised it, if known.
    - `unhandled_since` (epoch seconds) is when a worker first had no handler for the event, if no worker had one since.
    - `shared_lease` is the lease that the adapter renews for this claim and others, if there is one.
    - `queue` is what the adapter knows of the queue of the event's ordering key; None for an event without a key. The
      lease is that of the queue then, and ends with a settle.
    """

    event: Event
    token: str
    attempt: int
    lease_expires_at: float
    handled_by: frozenset[str] = frozenset()
    last_error: str = ""
    error_type: str | None = None
    error_handler: str | None = None
    unhandled_since: float | None = None
    due_at: float | None = None
    shared_lease: SharedLease | None = field(default=None, repr=False, compare=False)
    queue: object | None = field(default=None, repr=False, compare=False)

    @property
    def current_end(self) -> float:
        """When the lease ends (epoch seconds). A shared lease may have been renewed since the claim was made."""
        return self.lease_expires_at if self.shared_lease is None else self.shared_lease.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitClaim:
    """Events that are stored already claimed by the worker of this process: they need no poll and no second write.

    `tokens` has the token of each claim, by event id. The adapter calls `sending` before it sends the first of these
    events: from then on a cancellation of the caller does not end the write. If other tasks send the events, it calls
    `sending` before it starts them. The adapter calls `claimed` when the write of an event is acknowledged, but not for
    an event that is stored without a claim, because it waits behind others of its ordering key. If the adapter cannot
    find out whether it waits, it releases the claim in the background, and calls `released` afterwards.
    """

    tokens: Mapping[str, str]
    claimed: Callable[[Claim], None]
    sending: Callable[[], object] = lambda: None
    released: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerDone:
    """A handler of a claim that a transaction records as done.

    `completes` is true if every other handler of the event is done. `is_other` is true if an earlier transaction of the
    same delivery, with other contents, may have been applied. The adapter calls `written` when the transaction is known
    to be written, though the call goes on to find out which events it has claimed.
    """

    claim: Claim
    handler: str
    completes: bool
    is_other: bool = False
    written: Callable[[], object] = field(default=lambda: None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The result of a recovery: the ids of events whose lease had run out.

    `reset` are PENDING again; `failed` are FAILED, because no retry was left. `resumed` were HELD though their type is
    not held any more, and are PENDING again. `errors` are the errors of events that could not be written; their
    recovery is tried again later.
    """

    reset: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()
    errors: tuple[RecoveryError, ...] = ()
