"""What an operator sees of the events in an outbox: one event, a page of them, and a sample of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from dynamodb_outbox.event import EventStatus


class EventState(StrEnum):
    """What an event waits for. PENDING events are due or scheduled, PROCESSING ones have a lease or it has expired."""

    DUE = "due"
    """PENDING, and due: a worker with a free slot claims it."""
    SCHEDULED = "scheduled"
    """PENDING with a delay or a retry ahead."""
    PROCESSING = "processing"
    """A worker holds it."""
    EXPIRED = "expired"
    """PROCESSING, but its lease ran out: recovery makes it due again."""
    WAITING = "waiting"
    """Behind an earlier event of its ordering key."""
    HELD = "held"
    """Not delivered until its type is resumed."""
    FAILED = "failed"
    """A dead letter."""
    COMPLETED = "completed"
    """Every handler succeeded."""
    DISCARDED = "discarded"
    """An operator has decided that it is never delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of events: exact, or at least that many."""

    at_least: int
    is_exact: bool

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was found, and not everything was counted."""
        return not self.at_least and not self.is_exact

    def __str__(self) -> str:
        return f"{self.at_least:,}" if self.is_exact else f"{self.at_least:,}+"


NONE: Final = Count(at_least=0, is_exact=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event as it is stored. A field that the item does not have is None or empty.

    - `state` follows from `status` and the clock of this process.
    - If the item cannot be read as an event, `unreadable` has the reason, and `item` the stored item in DynamoDB's JSON
      form, with bytes as base64. `payload` is then None, `metadata` empty, and `occurred_at` is 1970-01-01.
    - `retry_count` counts the retries that were counted; the next attempt is `retry_count + 1`.
    - `due_at` is set for PENDING and HELD events, `lease_expires_at` for PROCESSING ones. An event in a window has
      `window`, the name of the window, and the lease of the window.
    - `claimed_by` names the process of the last claim: `HOST/PID/INSTANCE`.
    - `last_error` is the text of the last error; `error_type` is the class name of the error, and `error_handler` the
      handler that raised it.
    - `handled_by` has the names of the handlers that succeeded.
    - `discarded_by`, `discard_reason` and `replaced_by` (an event id) are set for DISCARDED events.
    - `ordering_key` is the key of an event that is delivered in order. The event at the front of the line has
      `waiting_behind`, the number of events behind it, exactly up to 20. All others are `waiting`, and have
      `waits_for`, the id of the event at the front; None if the emit has not put the event into the line yet.
    - `fence` says what was read. A repair with it is refused if the event has changed since.
    """

    id: str
    type: str
    status: EventStatus
    state: EventState
    occurred_at: datetime
    payload: Any = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    retry_count: int = 0
    due_at: datetime | None = None
    lease_expires_at: datetime | None = None
    started_at: datetime | None = None
    claimed_by: str | None = None
    window: str | None = None
    handled_by: frozenset[str] = frozenset()
    unhandled_since: datetime | None = None
    last_error: str = ""
    error_type: str | None = None
    error_handler: str | None = None
    failed_at: datetime | None = None
    completed_at: datetime | None = None
    discarded_at: datetime | None = None
    discarded_by: str | None = None
    discard_reason: str | None = None
    replaced_by: str | None = None
    expires_at: datetime | None = None
    unreadable: str | None = None
    ordering_key: str | None = None
    waiting_behind: Count | None = None
    waits_for: str | None = None
    item: Mapping[str, Any] | None = field(default=None, repr=False)
    fence: str = field(default="", repr=False)

    @property
    def blocks_key(self) -> bool:
        """Whether later events of its ordering key wait, because it is a dead letter at the front of the line."""
        return self.status is EventStatus.FAILED and self.waiting_behind is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of the events of a state.

    `after` is the cursor of the next page, None at the end. A page may have fewer events than asked for, even none, and
    still have a next one: `examined` counts the events that were read, of which a filter may have left some out.
    """

    events: tuple[StoredEvent, ...]
    after: str | None
    examined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The state of an outbox at one time, at a bounded cost: counts stop at a limit.

    The line of an ordering key counts as one event, the one at its front. `blocked_keys` counts the `failed` events
    that block their ordering keys. It `is_unknown` if no counted dead letter blocks a key, and there are more.
    `oldest_due` is when the oldest due event became due; `oldest_expired` when the oldest lease ran out that no worker
    has recovered; `latest_failed` when the latest dead letter failed. `read_units` are the units that the sample has
    cost, None if the backend does not say.
    """

    at: datetime
    due: Count
    scheduled: Count
    processing: Count
    expired: Count
    failed: Count
    held: Count
    oldest_due: datetime | None = None
    oldest_expired: datetime | None = None
    latest_failed: datetime | None = None
    read_units: float | None = None
    blocked_keys: Count = NONE

    @property
    def oldest_due_age(self) -> float:
        """For how many seconds the oldest due event has waited; 0 if nothing is due."""
        return _age(self.at, self.oldest_due)

    @property
    def oldest_expired_age(self) -> float:
        """For how many seconds the oldest expired lease has waited for its recovery; 0 if there is none."""
        return _age(self.at, self.oldest_expired)


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
