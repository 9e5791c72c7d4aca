"""The port between the bus and a storage adapter: `Outbox` and the options of delivery."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, get_args

from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone, Recovered
from dynamodb_outbox.errors import (
    ConfigurationError,
    DuplicateEventError,
    OutboxError,
    PartialPublishError,
    StorageError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observers import Observers
from dynamodb_outbox.outcome import LONGEST_DELAY, Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.repairs import MOST_RETRIES, Hold, Repaired
from dynamodb_outbox.reporting import OnError, Report
from dynamodb_outbox.stored_events import EventState, Page, Sample, StoredEvent
from dynamodb_outbox.transaction import TransactionWrite
from dynamodb_outbox.validation import check_bool, check_callable, check_int, check_seconds
from dynamodb_outbox.wording import shown

FailedKey = Literal["block", "skip"]
"""What a dead letter means for its ordering key: later events of the key wait (`"block"`), or go on (`"skip"`)."""
Settled = Claim | OutboxError | None
"""The answer to a settle: it is written (None), written and the next event of the key is claimed, or an error."""
Numbers = Literal["native", "decimal"]
"""How numbers come back: whole ones as int, all others as float (`"native"`) or as `Decimal` (`"decimal"`)."""
LEASE_EXPIRED: Final = "the lease ran out before the handlers were done: the worker died or hung"
"""The last error that recovery stores. It is short because a large item has little room left."""
LEASE_EXPIRED_TYPE: Final = "LeaseExpired"
"""The type of that error, where other errors have the name of their class."""
RENEWAL: Final = "renewal"
"""The name of a refused `renew` in a `LeaseLostError`."""
TRANSACTION: Final = "delivery transaction"
"""The name of a refused `transact` with a `HandlerDone` in a `LeaseLostError`."""
SETTLED_FROM: Final[Mapping[type, tuple[EventStatus, ...]]] = {
    Completed: (EventStatus.PENDING, EventStatus.PROCESSING, EventStatus.COMPLETED),
    Retry: (EventStatus.PENDING, EventStatus.PROCESSING),
    Failed: (EventStatus.PENDING, EventStatus.PROCESSING, EventStatus.FAILED),
    Released: (EventStatus.PROCESSING,),
    Held: (EventStatus.PROCESSING,),
}
"""The statuses in which an event accepts each outcome, if the token of the claim is still stored."""


class Outbox(Protocol):
    """A storage adapter. Every write to a stored event has a condition, and may be repeated."""

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        ...

    @property
    def observers(self) -> Observers:
        """The observers of this outbox. The adapter notifies them of steps in the storage, such as a refused claim."""
        ...

    async def prepare(self) -> None:
        """Get ready for a worker. Makes no request."""
        ...

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """Announce the handlers of a worker to other workers with its next claim: their names, by type.

        A worker calls it before its first claim, and again when its handlers have changed. Makes no request itself.
        """
        ...

    async def keep_leases(self, *, report: Report) -> None:
        """Renew the leases that claims share (see `SharedLease`), until cancelled. A worker runs it until it retires.

        An adapter without shared leases returns at once. `report` is called with the errors of renewals.
        """
        ...

    async def retire(self) -> None:
        """Withdraw the announcement to other workers, and wait for releases in the background.

        A worker calls `retire` after it wrote its last outcome, and waits for one second at most. Raises no errors, and
        does nothing without a `prepare`.
        """
        ...

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        """Store events as PENDING, due at `due_at` (epoch seconds) or now. Events of `emit_claim` are stored claimed.

        Raises `InvalidEventError` before anything is sent, `DuplicateEventError` or a `StorageError` when
        nothing was stored (unless its `maybe_applied` is true), `PartialPublishError` otherwise.
        """
        ...

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Make writes, store events (each with its due time) and record a handler as done, all or nothing.

        Raises `InvalidEventError`, `ConfigurationError` or `TransactionTooLargeError` before anything is sent;
        `LeaseLostError` when another worker has claimed the event of `done`, `DuplicateEventError`,
        `TransactionCancelledError` or `StorageError` when nothing was written, unless their `maybe_applied` is true.
        """
        ...

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim up to `limit` due events, the longest due first. Fewer means that no more are known to be due.

        With shards, the shards are read one after the other, and each has its own order. `report` is called with a
        `StoredEventError` for each stored item that cannot be read. Its default is the outbox's `on_error`.
        """
        ...

    async def settle(
        self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False
    ) -> Sequence[Settled]:
        """Write outcomes, each if the claim's token is still stored; return the answer to each settlement.

        A `LeaseLostError` says that this worker does not hold the event any more; another error, that the write failed.

        With `keep_keys`, an event with an ordering key that leaves its queue may hand the lease on: then the answer is
        the claim of the next event of the key, which this worker has to settle, too. Without it, or once a worker has
        kept a key for long, the next event is due for every worker.
        """
        ...

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new ends (epoch seconds); return None or an error for each renewal, as `settle` does."""
        ...

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Make events whose lease ran out PENDING again; after `max_retries` retries, an event becomes FAILED instead.

        Also make events PENDING that are HELD though no hold of their type is in force, such as one that has expired.

        The default of `max_retries` is that of the options. Raises `StorageError`.
        """
        ...

    async def count(self, status: EventStatus | str) -> int:
        """Count events that are PENDING, PROCESSING, FAILED or HELD; events with a delay or retry ahead are PENDING.

        Raises `ConfigurationError` for COMPLETED, DISCARDED and QUEUED, whose events are not in the index, and for
        other words.
        """
        ...

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        """List the dead letters, the latest first."""
        ...

    async def get(self, id: str) -> StoredEvent | None:
        """Read an event as it is stored now; None if there is no event with the id."""
        ...

    async def get_front(self, ordering_key: str) -> StoredEvent | None:
        """Read the event at the front of the line of an ordering key; None if there is none."""
        ...

    async def list_events(
        self, state: EventState | str, *, type: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """List the events of a state: by due time or the end of the lease; failed ones by the failure, latest first.

        `after` is the `after` of the page before. Only events of `type` are listed, if it is given: then a page reads
        at most 1,000 events, and may have few of them or none. Events that come into the state after the first page
        may be missing, and an event that changes meanwhile may come twice.

        Raises `ConfigurationError` for COMPLETED and DISCARDED events, which are not in the index, and for an `after`
        that is not from a page of the same state.
        """
        ...

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        """Count the events of each state, up to `count_limit`, and find the oldest ones, at a bounded cost."""
        ...

    async def redrive(self, ids: Sequence[str], *, fences: Mapping[str, str] | None = None) -> Repaired:
        """Make FAILED events PENDING again, with all their retries; the handlers in `handled_by` do not run again.

        An event that blocks its ordering key goes on in its place. One that was set aside goes to the end of the line.

        `fences` has the fences of `StoredEvent`s, by event id: an event that has one changes only if it is as it was
        then. The call may be repeated. Raises `StorageError`.
        """
        ...

    async def skip(self, ids: Sequence[str]) -> Repaired:
        """Set events aside that block their ordering keys: they stay FAILED, and the next event of the key is due.

        Refused unless the event is FAILED and at the front of its queue. The call may be repeated. Raises
        `StorageError`.
        """
        ...

    async def discard(
        self, ids: Sequence[str], *, reason: str, by: str, fences: Mapping[str, str] | None = None
    ) -> Repaired:
        """Make events DISCARDED that are FAILED, PENDING, HELD or QUEUED. They keep the reason, who did it, and when.

        A discard is final: a late outcome of a former worker is refused. The item stays, so that its id cannot be
        emitted again, until the `retention` is over. For `fences` see `redrive`. The call may be repeated. Raises
        `StorageError`.
        """
        ...

    async def replace(self, id: str, event: Event, *, reason: str, by: str) -> Repaired:
        """Store `event`, due now, and make the event of `id` DISCARDED with `replaced_by`, both or neither.

        Refused unless the old event is FAILED, PENDING, HELD or QUEUED. The call may be repeated with the same `event`.
        Raises `InvalidEventError` before anything is sent, `DuplicateEventError` if the id of `event` is stored, and
        `StorageError`.
        """
        ...

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None) -> None:
        """Order all workers not to start events of a type, or of any type if it is None, until `until` or `resume`.

        Workers ask `holds` every few seconds while they have events. An event of a held type that one has claimed is
        settled as `Held`. The call may be repeated; a later hold of the same type replaces the earlier one. Raises
        `StorageError`.
        """
        ...

    async def resume(self, type: str | None) -> int:
        """End the hold of a type, and make its HELD events PENDING with their due times; return how many there were.

        With None, only the hold of all types ends. The call may be repeated, also to move events that a worker held
        late. Raises `StorageError`.
        """
        ...

    async def holds(self) -> list[Hold]:
        """List the holds that are in force, that of all types first. Raises `StorageError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxOptions:
    """How events are delivered; see the options of `DynamoDBOutbox`. Times are seconds.

    Raises `ConfigurationError` for a value out of range.
    """

    batch_size: int = 10
    poll_interval: float = 1.0
    max_poll_interval: float | None = None
    processing_timeout: float = 30.0
    max_retries: int = 5
    base_backoff: float = 1.0
    concurrency: int | None = None
    claim_on_emit: bool = True
    numbers: Numbers = "native"
    failed_key: FailedKey = "block"
    unhandled_timeout: float | None = 3600.0
    on_error: OnError | None = None
    clock: Callable[[], float] = time.time
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        check_int("batch_size", self.batch_size, 1, 1000)
        check_seconds("poll_interval", self.poll_interval, 0.001, 3600)
        if self.max_poll_interval is not None:
            check_seconds("max_poll_interval", self.max_poll_interval, self.poll_interval, 3600, low_is="poll_interval")
        check_seconds("processing_timeout", self.processing_timeout, 0.1, 43_200)
        check_int("max_retries", self.max_retries, 0, MOST_RETRIES)
        check_seconds("base_backoff", self.base_backoff, 0, 86_400)
        if self.concurrency is not None:
            check_int("concurrency", self.concurrency, 1, 10_000)
        check_bool("claim_on_emit", self.claim_on_emit)
        if self.numbers not in get_args(Numbers):
            raise ConfigurationError(f"numbers={shown(self.numbers)}: it must be 'native' or 'decimal'")
        if self.failed_key not in get_args(FailedKey):
            raise ConfigurationError(f"failed_key={shown(self.failed_key)}: it must be 'block' or 'skip'")
        if self.unhandled_timeout is not None:
            check_seconds("unhandled_timeout", self.unhandled_timeout, 0, LONGEST_DELAY)
        check_callable("clock", self.clock)
        check_callable("random", self.random)
        if self.on_error is not None and not callable(self.on_error):
            raise ConfigurationError(f"on_error={shown(self.on_error)}: it must be a function of one argument, or None")

    def retries_of(self, declared: int | None) -> int:
        """Return the number of retries of a handler: its option, or the default of the outbox."""
        return self.max_retries if declared is None else declared

    @property
    def slots(self) -> int:
        """How many events one worker holds at once: `concurrency`, by default five batches."""
        return 5 * self.batch_size if self.concurrency is None else self.concurrency


def refuse_repeated_ids(events: Sequence[Event]) -> None:
    """Raise `DuplicateEventError` if two of the events have the same id."""
    seen: set[str] = set()
    for event in events:
        if event.id in seen:
            raise DuplicateEventError(event_id=event.id, within="the same call")
        seen.add(event.id)


def counted_status(status: EventStatus | str) -> EventStatus:
    """Read the argument of `count`. Raises `ConfigurationError` for a status that cannot be counted."""
    if status == EventStatus.COMPLETED:
        raise ConfigurationError(
            f"status={shown(status)}: completed events are not in the index; to count them, count the EventCompleted "
            "observations as they come, or Scan the table with a filter on its attribute status"
        )
    if status == EventStatus.QUEUED:
        raise ConfigurationError(
            f"status={shown(status)}: queued events are not in the index, only the queues of their ordering keys; "
            "count PENDING, PROCESSING, FAILED or HELD, where a queue counts as one event, the one at its front"
        )
    if status == EventStatus.DISCARDED:
        raise ConfigurationError(
            f"status={shown(status)}: discarded events are not in the index; to count them, Scan the table with a "
            "filter on its attribute status"
        )
    try:
        return EventStatus(status)
    except ValueError:
        raise ConfigurationError(f"status={shown(status)}: it must be PENDING, PROCESSING, FAILED or HELD") from None


def raise_unless_stored(events: Sequence[Event], causes: Mapping[str, OutboxError]) -> None:
    """Raise the error of a `publish` that did not store all events; `causes` has the reasons by event id.

    Raises the cause itself for a single event, and for a lasting cause that is the same for all, such as a missing
    table. Otherwise raises `PartialPublishError`.
    """
    if not causes:
        return
    published = [event for event in events if event.id not in causes]
    failed = [event for event in events if event.id in causes]
    first = next(iter(causes.values()))
    # An event that may be stored must be emitted again with its id; only `PartialPublishError` has that.
    passing = isinstance(first, (ThrottledError, UnavailableError)) or any(map(_may_be_stored, causes.values()))
    alike = len({type(cause) for cause in causes.values()}) == 1
    if len(events) == 1 or (not published and not passing and alike and not isinstance(first, DuplicateEventError)):
        raise first
    raise PartialPublishError(published=published, failed=failed, causes=causes) from first


def _may_be_stored(error: OutboxError) -> bool:
    return isinstance(error, StorageError) and error.maybe_applied
