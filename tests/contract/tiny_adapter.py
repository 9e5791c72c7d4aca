"""An adapter without transactions, in a dictionary. It uses public names only, as an author of an adapter would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from dynamodb_outbox import (
    ConfigurationError,
    DuplicateEventError,
    Event,
    EventStatus,
    FailedEvent,
    Hold,
    LeaseLostError,
    Page,
    Repaired,
    Sample,
    StoredEvent,
)
from dynamodb_outbox import adapter as port
from dynamodb_outbox.adapter import Claim, Completed, Failed, Recovered, Released, Retry

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus
TIMES = {PENDING: "due_at", PROCESSING: "lease_expires_at", FAILED: "failed_at", COMPLETED: "completed_at"}
TIMES |= {EventStatus.DISCARDED: "discarded_at", EventStatus.HELD: "due_at"}


@dataclass
class Row:
    item: port.Item
    sort_key: float
    status: EventStatus = PENDING
    retries: int = 0
    token: str = ""
    error: str = ""
    error_type: str | None = None
    error_handler: str | None = None
    handled_by: frozenset[str] = frozenset()
    unhandled_since: float | None = None


class TinyOutbox:
    def __init__(self, rows: dict[str, Row], *, observers: Any = (), **options: Any) -> None:
        self.rows, self.observers = rows, port.Observers(observers)
        self.options = port.OutboxOptions(claim_on_emit=False, **options)

    async def prepare(self) -> None: ...

    def announce_handlers(self, handlers: Any) -> None: ...

    async def keep_leases(self, *, report: Any) -> None: ...

    async def retire(self) -> None: ...

    async def publish(self, events: Any, *, due_at: float | None = None, emit_claim: Any = None) -> None:
        port.refuse_repeated_ids(events)
        due, numbers = self.options.clock() if due_at is None else due_at, self.options.numbers
        rows = {event.id: Row(port.encode_event(event, due_at=due, numbers=numbers)[0], due) for event in events}
        stored = {event_id: self._event(self.rows[event_id]) for event_id in rows.keys() & self.rows.keys()}
        self.rows |= {event_id: row for event_id, row in rows.items() if event_id not in stored}
        refused = {event_id: DuplicateEventError(event_id=event_id, stored=event) for event_id, event in stored.items()}
        port.raise_unless_stored(events, refused)

    async def transact(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError  # this adapter has no transactions; the contract of those is not run with it

    async def claim(self, limit: int, *, report: Any = None) -> list[Claim]:
        return [self._claim(row) for row in self._due(PENDING)[:limit]]

    def _claim(self, row: Row) -> Claim:
        row.status, row.token = PROCESSING, uuid4().hex
        row.sort_key = end = self.options.clock() + self.options.processing_timeout
        known: Any = {"handled_by": row.handled_by, "last_error": row.error, "unhandled_since": row.unhandled_since}
        return Claim(event=self._event(row), attempt=row.retries + 1, token=row.token, lease_expires_at=end, **known)

    async def settle(self, settlements: Any, *, keep_keys: bool = False) -> list[Any]:
        return [self._settle(claim, outcome) for claim, outcome in settlements]

    def _settle(self, claim: Claim, outcome: Any) -> LeaseLostError | None:
        row = self.rows.get(claim.event.id)
        if row is None or row.token != claim.token or row.status not in port.SETTLED_FROM[type(outcome)]:
            return lease_lost(claim, port.OUTCOME_NAMES[type(outcome)])
        row.status = {Completed: COMPLETED, Failed: FAILED}.get(type(outcome), PENDING)
        row.sort_key = self.options.clock() + getattr(outcome, "delay", 0)
        row.retries = claim.attempt if isinstance(outcome, Retry) else row.retries
        row.error = getattr(outcome, "error", row.error)[: port.MAX_ERROR_CHARS]
        row.error_type = getattr(outcome, "error_type", row.error_type)
        row.error_handler = getattr(outcome, "error_handler", row.error_handler)
        row.handled_by |= getattr(outcome, "handled_by", frozenset())
        row.unhandled_since = outcome.unhandled_since if isinstance(outcome, Released) else None
        return None

    async def renew(self, renewals: Any) -> list[Any]:
        errors: list[LeaseLostError | None] = []
        for claim, expires_at in renewals:
            row = self.rows.get(claim.event.id)
            is_held = row is not None and row.token == claim.token and row.status is PROCESSING
            errors.append(None if is_held else lease_lost(claim, port.RENEWAL))
            if row is not None and is_held:
                row.sort_key = expires_at
        return errors

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        due, ids = self._due(PROCESSING), {PENDING: (), FAILED: ()}
        for row in due:
            row.status = PENDING if row.retries < self.options.retries_of(max_retries) else FAILED
            row.retries += row.status is PENDING
            row.sort_key, row.error, row.unhandled_since = self.options.clock(), port.LEASE_EXPIRED, None
            row.error_type, row.error_handler = port.LEASE_EXPIRED_TYPE, None
            ids[row.status] += (row.item["id"]["S"],)
        return Recovered(reset=ids[PENDING], failed=ids[FAILED])

    async def count(self, status: EventStatus | str) -> int:
        return len(self._all(port.counted_status(status)))

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        rows = reversed(self._all(FAILED))
        failed = [FailedEvent(failed_at=datetime.fromtimestamp(row.sort_key, UTC), **self._known(row)) for row in rows]
        return [event for event in failed if type in (None, event.type)][:limit]

    async def get(self, id: str) -> StoredEvent | None:
        return self._stored(self.rows[id]) if id in self.rows else None

    async def get_front(self, ordering_key: str) -> StoredEvent | None:
        return None  # this adapter keeps no order

    async def list_events(self, state: Any, *, type: Any = None, after: Any = None, limit: int = 50) -> Page:
        wanted = port.listed_state(state)
        rows = sorted(self.rows.values(), key=lambda row: row.sort_key, reverse=wanted == "failed")
        events = [event for event in map(self._stored, rows) if event.state is wanted and type in (None, event.type)]
        start = next((place for place, event in enumerate(events, 1) if event.id == after), 0)
        if after is not None and not start:
            raise ConfigurationError(f"after={after!r}: no event of the state has this id")
        page, rest = events[start:][:limit], events[start + limit :]
        return Page(events=tuple(page), after=page[-1].id if rest else None, examined=len(page))

    async def sample(self, *, count_limit: int = 1000) -> Sample:
        return port.sample_of(map(self._stored, self.rows.values()), now=self.options.clock(), count_limit=count_limit)

    def _stored(self, row: Row) -> StoredEvent:
        known = self._known(row) | {TIMES[row.status]: datetime.fromtimestamp(row.sort_key, UTC)}
        state = port.state_of(row.status, row.sort_key, now=self.options.clock())
        return StoredEvent(status=row.status, state=state, fence=self._fence(row), **known)

    def _known(self, row: Row) -> dict[str, Any]:
        event = self._event(row)
        known = {name: getattr(event, name) for name in ("id", "type", "payload", "occurred_at", "metadata")}
        known |= {"retry_count": row.retries, "last_error": row.error, "handled_by": row.handled_by}
        return known | {"error_type": row.error_type, "error_handler": row.error_handler}

    async def redrive(self, ids: Any, *, fences: Any = None) -> Repaired:
        again = {"status": PENDING, "sort_key": self.options.clock(), "retries": 0, "token": ""}
        return self._repair(ids, fences, (FAILED,), again)

    async def skip(self, ids: Any) -> Repaired:
        return self._repair(ids, None, (), {})  # no event blocks a key, because this adapter keeps no order

    async def discard(self, ids: Any, *, reason: str, by: str, fences: Any = None) -> Repaired:
        return self._repair(ids, fences, port.DISCARDABLE, {"status": EventStatus.DISCARDED, "token": ""})

    async def replace(self, id: str, event: Event, *, reason: str, by: str) -> Repaired:
        raise NotImplementedError  # it needs a transaction

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None) -> None:
        raise NotImplementedError  # without holds, `holds` returns none

    async def resume(self, type: str | None) -> int:
        return 0

    async def holds(self) -> list[Hold]:
        return []

    def _repair(self, ids: Any, fences: Any, statuses: Any, change: dict[str, Any]) -> Repaired:
        done: list[str] = []
        refused: dict[str, EventStatus | None] = {}
        for event_id in dict.fromkeys(ids):
            row, fence = self.rows.get(event_id), port.fences_of(fences).get(event_id)
            if row is not None and row.status in statuses and (fence is None or fence.text == self._fence(row)):
                self.rows[event_id] = replace(row, **change)
                done.append(event_id)
            else:
                refused[event_id] = None if row is None else row.status
        return Repaired(done=tuple(done), refused=refused)

    def _fence(self, row: Row) -> str:
        return port.fence_of(row.status, round(row.sort_key * 1000))

    def _event(self, row: Row) -> Event:
        return port.decode_event(row.item, numbers=self.options.numbers)

    def _all(self, status: EventStatus) -> list[Row]:
        return sorted((row for row in self.rows.values() if row.status is status), key=lambda row: row.sort_key)

    def _due(self, status: EventStatus) -> list[Row]:
        return [row for row in self._all(status) if row.sort_key <= self.options.clock()]


def lease_lost(claim: Claim, outcome: str) -> LeaseLostError:
    return LeaseLostError(event_id=claim.event.id, event_type=claim.event.type, outcome=outcome)
