"""`InMemoryOutbox`: the outbox in a dictionary, for users' tests.

It encodes through the same codec and makes the same transitions as the DynamoDB adapter, and passes the same
contract suite: a test against it sees events refused that DynamoDB would refuse, and what DynamoDB would return.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

from dynamodb_outbox.bound_loop import OUTBOX_INSTEAD, BoundLoop
from dynamodb_outbox.dynamodb.emitting.transact_items import check_size
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, Item, decode_event, encode_event
from dynamodb_outbox.errors import DuplicateEventError, LeaseLostError, OutboxError
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.observers import Observer, Observers
from dynamodb_outbox.outcome import OUTCOME_NAMES, Completed, Failed, Outcome, Released, Retry
from dynamodb_outbox.port import (
    LEASE_EXPIRED,
    RENEWAL,
    SETTLED_FROM,
    TRANSACTION,
    Claim,
    EmitClaim,
    HandlerDone,
    Numbers,
    OutboxOptions,
    Recovered,
    counted_status,
    raise_unless_stored,
    refuse_repeated_ids,
)
from dynamodb_outbox.reporting import OnError, Report
from dynamodb_outbox.transaction import TransactionWrite


@dataclass(slots=True)
class _Stored:
    item: Item
    sort_key: int | None
    status: EventStatus = EventStatus.PENDING
    retry_count: int = 0
    token: str | None = None
    last_error: str = ""
    handled_by: frozenset[str] = frozenset()
    unhandled_since: float | None = None


class InMemoryOutbox:
    """An outbox in memory, for tests. It checks events and makes transitions as `DynamoDBOutbox` does.

    The options have the meaning that they have for `DynamoDBOutbox`. Raises `ConfigurationError` for a value out of
    range. `committed` lists the writes of committed transactions; they are recorded, and not carried out.
    """

    def __init__(
        self,
        *,
        batch_size: int = 10,
        poll_interval: float = 1.0,
        max_poll_interval: float | None = None,
        processing_timeout: float = 30.0,
        max_retries: int = 5,
        base_backoff: float = 1.0,
        concurrency: int | None = None,
        claim_on_emit: bool = True,
        numbers: Numbers = "native",
        unhandled_timeout: float | None = 3600.0,
        on_error: OnError | None = None,
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._options = OutboxOptions(
            batch_size=batch_size,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            processing_timeout=processing_timeout,
            max_retries=max_retries,
            base_backoff=base_backoff,
            concurrency=concurrency,
            claim_on_emit=claim_on_emit,
            numbers=numbers,
            unhandled_timeout=unhandled_timeout,
            on_error=on_error,
            clock=clock,
            random=random,
        )
        self._observers = Observers(observers)
        self._loop = BoundLoop("outbox", instead=OUTBOX_INSTEAD)
        self._events: dict[str, _Stored] = {}
        self.committed: list[TransactionWrite] = []
        """The writes of the transactions that were committed. They are recorded, and not carried out."""

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        return self._options

    @property
    def observers(self) -> Observers:
        """Those who are told what happens."""
        return self._observers

    def status_of(self, event_id: str) -> EventStatus | None:
        """Return the status of an event; None if it is not stored."""
        stored = self._events.get(event_id)
        return stored.status if stored else None

    async def prepare(self) -> None:
        """Nothing is to be prepared."""
        self._loop.check("outbox.prepare")

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """No other process sees this outbox."""

    async def retire(self) -> None:
        """Nothing was made known to other workers."""
        self._loop.check("outbox.retire")

    async def publish(
        self, events: Sequence[Event], *, due_at: float | None = None, emit_claim: EmitClaim | None = None
    ) -> None:
        """Store events as PENDING or claimed on emit; see `Outbox.publish`."""
        self._loop.check("outbox.publish")
        refuse_repeated_ids(events)
        due = self._options.clock() if due_at is None else due_at
        items = [encode_event(event, due_at=due, numbers=self._options.numbers)[0] for event in events]
        causes: dict[str, OutboxError] = {}
        for event, item in zip(events, items, strict=True):
            event.take_unpublished()
            if event.id in self._events:
                stored = decode_event(self._events[event.id].item, numbers=self._options.numbers)
                causes[event.id] = DuplicateEventError(event_id=event.id, stored=stored)
            else:
                self._store(event, item, due, emit_claim)
        raise_unless_stored(events, causes)

    async def transact(
        self,
        writes: Sequence[TransactionWrite],
        events: Sequence[tuple[Event, float | None]],
        *,
        done: HandlerDone | None = None,
        emit_claim: EmitClaim | None = None,
    ) -> None:
        """Store events, and record writes and a handler as done, all or nothing; see `Outbox.transact`.

        The writes concern tables that are not here: their values, number and size are checked, and they are recorded
        in `committed` and not carried out. For keys and conditions, test with moto or DynamoDB Local.
        """
        self._loop.check("outbox.transact")
        refuse_repeated_ids([event for event, _ in events])
        now = self._options.clock()
        due_at = [now if due is None else due for _, due in events]
        numbers = self._options.numbers
        items = [
            encode_event(event, due_at=due, numbers=numbers) for (event, _), due in zip(events, due_at, strict=True)
        ]
        check_size(writes, events=[size for _, size in items], records=int(done is not None))
        if done is not None and self._is_recorded(done):
            return
        if done is not None:
            self._check_held(done)
        for event, _ in events:
            if event.id in self._events:
                stored = decode_event(self._events[event.id].item, numbers=self._options.numbers)
                raise DuplicateEventError(event_id=event.id, within="a transaction", stored=stored)
        if done is not None:
            self._record(done)
        for (event, _), (item, _), due in zip(events, items, due_at, strict=True):
            event.take_unpublished()
            self._store(event, item, due, emit_claim)
        self.committed += writes

    def _store(self, event: Event, item: Item, due: float, emit_claim: EmitClaim | None) -> None:
        if emit_claim is not None:
            emit_claim.sending()
        stored = self._events[event.id] = _Stored(item, sort_key=round(due * 1000))
        if emit_claim is not None and event.id in emit_claim.tokens:
            emit_claim.claimed(self._claim(stored, emit_claim.tokens[event.id], self._options.clock()))

    def _is_recorded(self, done: HandlerDone) -> bool:
        stored = self._events.get(done.claim.event.id)
        if stored is None or stored.token != done.claim.token:
            return False
        return done.handler in stored.handled_by or (done.completes and stored.status is EventStatus.COMPLETED)

    def _check_held(self, done: HandlerDone) -> None:
        event = done.claim.event
        stored = self._events.get(event.id)
        if stored is None or stored.token != done.claim.token or stored.status is not EventStatus.PROCESSING:
            raise LeaseLostError(event_id=event.id, event_type=event.type, outcome=TRANSACTION)

    def _record(self, done: HandlerDone) -> None:
        stored = self._events[done.claim.event.id]
        stored.handled_by |= {done.handler}
        if done.completes:
            stored.status, stored.sort_key, stored.unhandled_since = EventStatus.COMPLETED, None, None

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim up to `limit` due events; see `Outbox.claim`."""
        self._loop.check("outbox.claim")
        now = self._options.clock()
        return [self._claim(stored, token_hex(16), now) for stored in list(self._due(EventStatus.PENDING, now))[:limit]]

    def _claim(self, stored: _Stored, token: str, now: float) -> Claim:
        stored.status, stored.token = EventStatus.PROCESSING, token
        stored.sort_key = round((now + self._options.processing_timeout) * 1000)
        return Claim(
            event=decode_event(stored.item, numbers=self._options.numbers),
            token=token,
            attempt=stored.retry_count + 1,
            lease_expires_at=stored.sort_key / 1000,
            handled_by=stored.handled_by,
            last_error=stored.last_error,
            unhandled_since=stored.unhandled_since,
        )

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]]) -> list[OutboxError | None]:
        """Write outcomes, fenced by the claims' tokens; see `Outbox.settle`."""
        self._loop.check("outbox.settle")
        return [self._settle(claim, outcome) for claim, outcome in settlements]

    def _settle(self, claim: Claim, outcome: Outcome) -> OutboxError | None:
        stored = self._events.get(claim.event.id)
        if stored is None or stored.token != claim.token or stored.status not in SETTLED_FROM[type(outcome)]:
            return LeaseLostError(
                event_id=claim.event.id, event_type=claim.event.type, outcome=OUTCOME_NAMES[type(outcome)]
            )
        now = self._options.clock()
        stored.unhandled_since = outcome.unhandled_since if isinstance(outcome, Released) else None
        match outcome:
            case Completed():
                stored.status, stored.sort_key = EventStatus.COMPLETED, None
            case Retry(delay=delay, error=error, handled_by=handled_by):
                stored.status, stored.sort_key = EventStatus.PENDING, round((now + delay) * 1000)
                stored.retry_count = claim.attempt
                stored.last_error = error[:MAX_ERROR_CHARS]
                stored.handled_by |= handled_by
            case Failed(error=error, handled_by=handled_by):
                stored.status, stored.sort_key = EventStatus.FAILED, round(now * 1000)
                stored.last_error = error[:MAX_ERROR_CHARS]
                stored.handled_by |= handled_by
            case Released(handled_by=handled_by, delay=delay):
                stored.status, stored.sort_key = EventStatus.PENDING, round((now + delay) * 1000)
                stored.handled_by |= handled_by
        return None

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines; see `Outbox.renew`."""
        self._loop.check("outbox.renew")
        return [self._renew(claim, expires_at) for claim, expires_at in renewals]

    def _renew(self, claim: Claim, expires_at: float) -> OutboxError | None:
        stored = self._events.get(claim.event.id)
        if stored is None or stored.token != claim.token or stored.status is not EventStatus.PROCESSING:
            return LeaseLostError(event_id=claim.event.id, event_type=claim.event.type, outcome=RENEWAL)
        stored.sort_key = round(expires_at * 1000)
        return None

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Reset the events whose lease ran out; see `Outbox.recover`."""
        self._loop.check("outbox.recover")
        max_retries = self._options.retries_of(max_retries)
        now = self._options.clock()
        reset: list[str] = []
        failed: list[str] = []
        for stored in list(self._due(EventStatus.PROCESSING, now)):
            event_id = stored.item["id"]["S"]
            stored.sort_key = round(now * 1000)
            stored.last_error = LEASE_EXPIRED
            stored.unhandled_since = None
            if stored.retry_count < max_retries:
                stored.status = EventStatus.PENDING
                stored.retry_count += 1
                reset.append(event_id)
            else:
                stored.status = EventStatus.FAILED
                failed.append(event_id)
        return Recovered(reset=tuple(reset), failed=tuple(failed))

    async def count(self, status: EventStatus | str) -> int:
        """Count the events that are PENDING, PROCESSING or FAILED; see `Outbox.count`."""
        self._loop.check("outbox.count")
        counted = counted_status(status)
        return sum(stored.status is counted for stored in self._events.values())

    async def failed_events(self, *, type: str | None = None, limit: int = 100) -> list[FailedEvent]:
        """List the dead letters, the latest first."""
        self._loop.check("outbox.failed_events")
        failed = [stored for stored in self._events.values() if stored.status is EventStatus.FAILED]
        failed.sort(key=lambda stored: stored.sort_key or 0, reverse=True)
        listed = [_failed_event(stored, self._options.numbers) for stored in failed]
        return [event for event in listed if type is None or event.type == type][:limit]

    async def redrive(self, ids: Sequence[str]) -> int:
        """Make FAILED events PENDING again; the number that were FAILED."""
        self._loop.check("outbox.redrive")
        redriven = 0
        for event_id in dict.fromkeys(ids):
            stored = self._events.get(event_id)
            if stored is not None and stored.status is EventStatus.FAILED:
                stored.status, stored.retry_count, stored.token = EventStatus.PENDING, 0, None
                stored.sort_key = round(self._options.clock() * 1000)
                stored.unhandled_since = None
                redriven += 1
        return redriven

    def _due(self, status: EventStatus, now: float) -> Iterator[_Stored]:
        due = [
            (stored.sort_key, index)
            for index, stored in enumerate(self._events.values())
            if stored.status is status and stored.sort_key is not None and stored.sort_key <= round(now * 1000)
        ]
        events = list(self._events.values())
        return (events[index] for _, index in sorted(due))


def _failed_event(stored: _Stored, numbers: Numbers) -> FailedEvent:
    event = decode_event(stored.item, numbers=numbers)
    return FailedEvent(
        id=event.id,
        type=event.type,
        payload=event.payload,
        occurred_at=event.occurred_at,
        metadata=event.metadata,
        retry_count=stored.retry_count,
        last_error=stored.last_error,
        failed_at=datetime.fromtimestamp((stored.sort_key or 0) / 1000, UTC),
        handled_by=stored.handled_by,
    )
