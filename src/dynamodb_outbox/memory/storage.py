"""The events of an `InMemoryOutbox`, and the transitions of one event.

Each transition has the condition that the DynamoDB adapter sends with its write, and changes nothing if the condition
is false. A settle of a claim whose lease ran out, for example, is refused once another worker has claimed the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dynamodb_outbox.claims import Claim, HandlerDone
from dynamodb_outbox.dynamodb.items.codec import (
    MAX_ERROR_CHARS,
    MAX_ERROR_TYPE_BYTES,
    Item,
    decode_event,
    millis,
    short_text,
)
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.fences import Fence, fence_of
from dynamodb_outbox.outcome import Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.port import LEASE_EXPIRED, LEASE_EXPIRED_TYPE, SETTLED_FROM, Numbers
from dynamodb_outbox.worker_identity import worker_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Why an event was discarded, who did it, when (epoch seconds), and the id of the event that replaced it."""

    reason: str
    by: str
    at: float
    replaced_by: str | None = None


@dataclass(slots=True)
class StoredEvent:
    """One event: its item as it was published, and what delivery has changed since. Times are epoch seconds."""

    item: Item
    sort_key: int | None
    """The due time, the end of the lease or the time of failure, in epoch milliseconds; None once it is COMPLETED or
    DISCARDED."""
    status: EventStatus = EventStatus.PENDING
    retry_count: int = 0
    token: str | None = None
    last_error: str = ""
    handled_by: frozenset[str] = frozenset()
    unhandled_since: float | None = None
    discarded: Discard | None = None
    error_type: str | None = None
    error_handler: str | None = None
    claimed_by: str | None = None
    started_at: float | None = None
    completed_at: float | None = None

    @property
    def event_id(self) -> str:
        """The id of the event."""
        event_id: str = self.item["id"]["S"]
        return event_id

    @property
    def ordering_key(self) -> str | None:
        """The ordering key of the event, if it has one."""
        key: str | None = self.item["orderingKey"]["S"] if "orderingKey" in self.item else None
        return key

    def wait(self) -> None:
        """Make the event QUEUED: it waits for its turn, and the queue of its key has its delivery."""
        self.status, self.sort_key, self.token, self.retry_count = EventStatus.QUEUED, None, None, 0

    def at_front(self, now: float) -> StoredEvent:
        """Return the delivery of a QUEUED event whose turn has come: it is due now.

        One that was set aside before keeps what is known of its handlers and of its last error.
        """
        return StoredEvent(
            self.item,
            sort_key=round(now * 1000),
            handled_by=self.handled_by,
            last_error=self.last_error,
            error_type=self.error_type,
            error_handler=self.error_handler,
        )

    def complete(self, now: float) -> None:
        """Make the event COMPLETED."""
        self.status, self.sort_key, self.completed_at = EventStatus.COMPLETED, None, now

    def is_held(self, claim: Claim) -> bool:
        """Tell whether the claim still holds."""
        return self.token == claim.token and self.status is EventStatus.PROCESSING

    def claim(self, *, token: str, now: float, lease_expires_at: float, numbers: Numbers) -> Claim:
        """Make the event PROCESSING, with a new token."""
        due_at = None if self.sort_key is None else self.sort_key / 1000
        self.started_at, self.claimed_by = now, worker_identity.text
        self.status, self.token, self.sort_key = EventStatus.PROCESSING, token, round(lease_expires_at * 1000)
        return Claim(
            event=decode_event(self.item, numbers=numbers),
            token=token,
            attempt=self.retry_count + 1,
            lease_expires_at=self.sort_key / 1000,
            handled_by=self.handled_by,
            last_error=self.last_error,
            error_type=self.error_type,
            error_handler=self.error_handler,
            unhandled_since=self.unhandled_since,
            due_at=due_at,
            queue=self.ordering_key,
        )

    def renew(self, claim: Claim, expires_at: float) -> bool:
        """Move the end of the lease, if the claim still holds; tell whether it does."""
        if not self.is_held(claim):
            return False
        self.sort_key = round(expires_at * 1000)
        return True

    def takes(self, claim: Claim, outcome: Outcome) -> bool:
        """Tell whether the outcome of a claim can be written: the token of the claim is still stored."""
        return self.token == claim.token and self.status in SETTLED_FROM[type(outcome)]

    def settle(self, claim: Claim, outcome: Outcome, now: float) -> bool:
        """Write the outcome of a claim, if the event has its token; tell whether it has."""
        if not self.takes(claim, outcome):
            return False
        self.unhandled_since = outcome.unhandled_since if isinstance(outcome, Released) else None
        if isinstance(outcome, (Retry, Failed)):
            self.last_error = outcome.error[:MAX_ERROR_CHARS]
            self.error_type = outcome.error_type and short_text(outcome.error_type, MAX_ERROR_TYPE_BYTES)["S"]
            self.error_handler = outcome.error_handler
        match outcome:
            case Completed():
                self.complete(now)
            case Retry(delay=delay, handled_by=handled_by):
                self.status, self.sort_key = EventStatus.PENDING, round((now + delay) * 1000)
                self.retry_count = claim.attempt
                self.handled_by |= handled_by
            case Failed(handled_by=handled_by):
                self.status, self.sort_key = EventStatus.FAILED, round(now * 1000)
                self.handled_by |= handled_by
            case Released(handled_by=handled_by, delay=delay):
                self.status, self.sort_key = EventStatus.PENDING, round((now + delay) * 1000)
                self.handled_by |= handled_by
            case Held(due_at=due_at):
                self.status, self.sort_key, self.token = EventStatus.HELD, round(due_at * 1000), None
        return True

    def is_recorded(self, done: HandlerDone) -> bool:
        """Tell whether the handler was recorded as done under this claim before."""
        if self.token != done.claim.token:
            return False
        return done.handler in self.handled_by or (done.completes and self.status is EventStatus.COMPLETED)

    def record(self, done: HandlerDone, now: float) -> None:
        """Record a handler as done. An event with an ordering key stays at the front until it is settled."""
        self.handled_by |= {done.handler}
        if done.completes and self.ordering_key is None:
            self.complete(now)
            self.unhandled_since = None

    def recover(self, now: float, *, max_retries: int | None) -> None:
        """Make an event whose lease ran out PENDING for a retry, or FAILED if it has no retry left. None: no limit."""
        self.sort_key = round(now * 1000)
        self.last_error, self.error_type, self.error_handler = LEASE_EXPIRED, LEASE_EXPIRED_TYPE, None
        self.unhandled_since = None
        if max_retries is None or self.retry_count < max_retries:
            self.status = EventStatus.PENDING
            self.retry_count += 1
        else:
            self.status = EventStatus.FAILED

    def redrive(self, now: float, fence: Fence | None) -> bool:
        """Make a FAILED event PENDING; tell whether it was FAILED, and as the fence says."""
        if self.status is not EventStatus.FAILED or not self.is_as_seen(fence):
            return False
        self.status, self.retry_count, self.token = EventStatus.PENDING, 0, None
        self.sort_key, self.unhandled_since = round(now * 1000), None
        return True

    def discard(self, discard: Discard) -> None:
        """Make the event DISCARDED."""
        self.status, self.sort_key, self.token, self.unhandled_since = EventStatus.DISCARDED, None, None, None
        self.discarded = discard

    def resume(self) -> bool:
        """Make a HELD event PENDING, due as before; tell whether it was HELD."""
        if self.status is not EventStatus.HELD:
            return False
        self.status = EventStatus.PENDING
        return True

    def is_as_seen(self, fence: Fence | None) -> bool:
        """Tell whether the event is as it was when the fence was read. Without a fence, it is."""
        return fence is None or fence_of(self.status, self.sort_key) == fence.text

    def as_item(self) -> Item:
        """Return the item as the DynamoDB adapter would have it now."""
        item: Item = {**self.item, "status": {"S": self.status.value}, "retryCount": {"N": str(self.retry_count)}}
        item.pop("gsiSortKey", None)
        if self.sort_key is not None:
            item["gsiSortKey"] = {"N": str(self.sort_key)}
        texts = {
            "claimToken": self.token,
            "claimedBy": self.claimed_by,
            "lastError": self.last_error,
            "errorType": self.error_type,
            "errorHandler": self.error_handler,
        }
        times = {
            "startedOn": self.started_at,
            "completedOn": self.completed_at,
            "unhandledSince": self.unhandled_since,
        }
        if self.discarded is not None:
            texts |= {
                "discardedBy": self.discarded.by,
                "discardReason": self.discarded.reason,
                "replacedBy": self.discarded.replaced_by,
            }
            times["discardedOn"] = self.discarded.at
        item |= {name: {"S": text} for name, text in texts.items() if text}
        item |= {name: millis(time) for name, time in times.items() if time is not None}
        return item | ({"handledBy": {"SS": sorted(self.handled_by)}} if self.handled_by else {})

    def as_dead_letter(self, *, numbers: Numbers, blocks_key: bool) -> FailedEvent:
        """Read the event as a dead letter."""
        event = decode_event(self.item, numbers=numbers)
        return FailedEvent(
            id=event.id,
            type=event.type,
            payload=event.payload,
            occurred_at=event.occurred_at,
            metadata=event.metadata,
            retry_count=self.retry_count,
            last_error=self.last_error,
            failed_at=datetime.fromtimestamp((self.sort_key or 0) / 1000, UTC),
            handled_by=self.handled_by,
            error_type=self.error_type,
            error_handler=self.error_handler,
            ordering_key=self.ordering_key,
            blocks_key=blocks_key,
        )
