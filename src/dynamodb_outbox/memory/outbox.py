"""`InMemoryOutbox`: the outbox in a dictionary, for the tests of users.

It has the codec and the transitions of the DynamoDB adapter, and passes the same contract suite. So a test against it
sees the errors for events that DynamoDB does not take, and gets payloads as DynamoDB returns them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import Literal

from dynamodb_outbox.bound_loop import OUTBOX_INSTEAD, BoundLoop
from dynamodb_outbox.claims import Claim, EmitClaim, HandlerDone, Recovered
from dynamodb_outbox.dynamodb.emitting.transact_items import check_size
from dynamodb_outbox.dynamodb.items.codec import Item, decode_event, encode_event
from dynamodb_outbox.errors import DuplicateEventError, LeaseLostError, OutboxError
from dynamodb_outbox.event import Event, EventStatus, FailedEvent
from dynamodb_outbox.event_states import sample_of
from dynamodb_outbox.fences import Fence, fences_of
from dynamodb_outbox.memory.reading import dead_letters, page_of, read_event
from dynamodb_outbox.memory.repairing import Repairs
from dynamodb_outbox.memory.storage import Discard, StoredEvent
from dynamodb_outbox.memory.table import Table, sizes_of
from dynamodb_outbox.observers import KeyUnblocked, Observer, Observers
from dynamodb_outbox.outcome import OUTCOME_NAMES, Failed, Outcome
from dynamodb_outbox.port import (
    RENEWAL,
    TRANSACTION,
    FailedKey,
    Numbers,
    OutboxOptions,
    Settled,
    counted_status,
    raise_unless_stored,
    refuse_repeated_ids,
)
from dynamodb_outbox.repairs import Hold, Repaired, in_order
from dynamodb_outbox.reporting import OnError, Report
from dynamodb_outbox.stored_events import EventState, Page, Sample
from dynamodb_outbox.stored_events import StoredEvent as PublicEvent
from dynamodb_outbox.transaction import TransactionWrite
from dynamodb_outbox.validation import check_int, check_ordering_key


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
        failed_key: FailedKey = "block",
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
            failed_key=failed_key,
            unhandled_timeout=unhandled_timeout,
            on_error=on_error,
            clock=clock,
            random=random,
        )
        self._observers = Observers(observers)
        self._loop = BoundLoop("outbox", instead=OUTBOX_INSTEAD)
        self._table = Table()
        self.committed: list[TransactionWrite] = []
        """The writes of the committed transactions. They are only recorded, not executed."""

    @property
    def options(self) -> OutboxOptions:
        """How events of this outbox are delivered."""
        return self._options

    @property
    def observers(self) -> Observers:
        """The registered observers."""
        return self._observers

    def status_of(self, event_id: str) -> EventStatus | None:
        """Return the status of an event; None if it is not stored."""
        stored = self._table.find(event_id)
        return stored.status if stored else None

    async def prepare(self) -> None:
        """Do nothing: a dictionary needs no preparation."""
        self._loop.check("outbox.prepare")

    def announce_handlers(self, handlers: Mapping[str, Collection[str]]) -> None:
        """Do nothing: no other process sees this outbox."""

    async def keep_leases(self, *, report: Report) -> None:
        """Do nothing: claims of this outbox do not share leases."""

    async def retire(self) -> None:
        """Do nothing: there are no other workers."""
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
            if (stored := self._stored(event.id)) is not None:
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

        The writes are for tables that do not exist here. The outbox checks their values, number and size, and records
        them in `committed`; it does not execute them. To test keys and conditions, use moto or DynamoDB Local.
        """
        self._loop.check("outbox.transact")
        refuse_repeated_ids([event for event, _ in events])
        now = self._options.clock()
        due = [now if due_at is None else due_at for _, due_at in events]
        numbers = self._options.numbers
        items = [encode_event(event, due_at=at, numbers=numbers) for (event, _), at in zip(events, due, strict=True)]
        records, queues = sizes_of(events, done)
        check_size(writes, events=[size for _, size in items], records=records, queues=(queues, 0))
        delivered = self._table.held_by(done.claim) if done is not None else None
        if done is not None and delivered is not None and delivered.is_recorded(done):
            done.written()
            return
        is_lost = done is not None and (delivered is None or not delivered.is_held(done.claim))
        if done is not None and (is_lost or self._table.is_completed_already(done)):
            raise _lease_lost(done.claim, TRANSACTION)
        for event, _ in events:
            if (stored := self._stored(event.id)) is not None:
                raise DuplicateEventError(event_id=event.id, within="a transaction", stored=stored)
        if done is not None and delivered is not None:
            delivered.record(done, now)
            self._table.on_recorded(done, now)
            done.written()
        for (event, _), (item, _), at in zip(events, items, due, strict=True):
            event.take_unpublished()
            self._store(event, item, at, emit_claim)
        self.committed += writes

    def _stored(self, event_id: str) -> Event | None:
        stored = self._table.events.get(event_id)
        return None if stored is None else decode_event(stored.item, numbers=self._options.numbers)

    def _store(self, event: Event, item: Item, due: float, emit_claim: EmitClaim | None) -> None:
        if emit_claim is not None:
            emit_claim.sending()
        claimable = self._table.put(item, due_at=due)
        if emit_claim is not None and claimable is not None and event.id in emit_claim.tokens:
            emit_claim.claimed(self._claim(claimable, emit_claim.tokens[event.id], self._options.clock()))

    async def claim(self, limit: int, *, report: Report | None = None) -> list[Claim]:
        """Claim up to `limit` due events; see `Outbox.claim`."""
        self._loop.check("outbox.claim")
        now = self._options.clock()
        self._table.drop_done(now)
        due = list(self._table.due(EventStatus.PENDING, now))[:limit]
        for stored in due:
            self._table.begin_row(stored)
        return [self._claim(stored, token_hex(16), now) for stored in due]

    def _claim(self, stored: StoredEvent, token: str, now: float) -> Claim:
        ends = now + self._options.processing_timeout
        return stored.claim(token=token, now=now, lease_expires_at=ends, numbers=self._options.numbers)

    async def settle(
        self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False
    ) -> Sequence[Settled]:
        """Write outcomes, fenced by the claims' tokens; see `Outbox.settle`."""
        self._loop.check("outbox.settle")
        now = self._options.clock()
        return [self._settle(claim, outcome, now, keep_keys=keep_keys) for claim, outcome in settlements]

    def _settle(self, claim: Claim, outcome: Outcome, now: float, *, keep_keys: bool) -> Settled:
        is_settled = self._table.settle(claim, outcome, now)
        late = self._table.unblock_late(claim, now)
        # A dead letter that leaves its queue does not block it.
        if late is not None and not (isinstance(outcome, Failed) and self._options.failed_key == "skip"):
            self._on_unblocked(late, "completed")
        if late is not None or not is_settled:
            return _lease_lost(claim, OUTCOME_NAMES[type(outcome)])
        following = self._table.leave(claim, outcome, now, failed_key=self._options.failed_key, keep_keys=keep_keys)
        return None if following is None else self._claim(following, token_hex(16), now)

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines; see `Outbox.renew`."""
        self._loop.check("outbox.renew")
        return [
            None if self._is_renewed(claim, expires_at) else _lease_lost(claim, RENEWAL)
            for claim, expires_at in renewals
        ]

    def _is_renewed(self, claim: Claim, expires_at: float) -> bool:
        stored = self._table.held_by(claim)
        return stored is not None and stored.renew(claim, expires_at)

    async def recover(self, *, max_retries: int | None = None) -> Recovered:
        """Reset the events whose lease ran out; see `Outbox.recover`."""
        self._loop.check("outbox.recover")
        max_retries = self._options.retries_of(max_retries)
        now = self._options.clock()
        expired = list(self._table.due(EventStatus.PROCESSING, now))
        for stored in expired:
            # The worker that claims the queue of a key makes an event FAILED that has no retry left.
            stored.recover(now, max_retries=max_retries if stored.ordering_key is None else None)
        reset = [stored.event_id for stored in expired if stored.status is EventStatus.PENDING]
        failed = [stored.event_id for stored in expired if stored.status is EventStatus.FAILED]
        held = {hold.type for hold in self._table.holds_in_force(now)}
        resumed = self._table.resume(lambda event_type: event_type not in held)
        return Recovered(reset=tuple(reset), failed=tuple(failed), resumed=resumed)

    async def count(self, status: EventStatus | str) -> int:
        """Count the events of a status; see `Outbox.count`."""
        self._loop.check("outbox.count")
        counted = counted_status(status)
        return sum(stored.status is counted for stored in self._table.rows.values())

    async def failed_events(self, *, type: str | None = None, limit: int = 100) -> list[FailedEvent]:
        """List the dead letters, the latest first."""
        self._loop.check("outbox.failed_events")
        return dead_letters(self._table, self._options, type=type)[:limit]

    async def get(self, id: str) -> PublicEvent | None:
        """Read an event; see `Outbox.get`."""
        self._loop.check("outbox.get")
        stored = self._table.shown(id)
        return None if stored is None else read_event(stored, self._table, self._options)

    async def get_front(self, ordering_key: str) -> PublicEvent | None:
        """Read the event at the front of a line; see `Outbox.get_front`."""
        self._loop.check("outbox.get_front")
        queue = self._table.queues.get(check_ordering_key(ordering_key))
        return None if queue is None else await self.get(queue.ids[0])

    async def list_events(
        self, state: EventState | str, *, type: str | None = None, after: str | None = None, limit: int = 50
    ) -> Page:
        """List the events of a state; see `Outbox.list_events`."""
        self._loop.check("outbox.list_events")
        check_int("limit", limit, 1, 1_000)
        return page_of(self._table, state, self._options, type=type, after=after, limit=limit)

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        """Count the events of each state; see `Outbox.sample`. It has no `read_units`."""
        self._loop.check("outbox.sample")
        check_int("count_limit", count_limit, 1, 1_000_000)
        events = (read_event(stored, self._table, self._options) for stored in self._table.rows.values())
        known = [event for event in events if event is not None]
        return sample_of(known, now=self._options.clock(), count_limit=count_limit)

    async def redrive(self, ids: Sequence[str], *, fences: Mapping[str, str] | None = None) -> Repaired:
        """Make FAILED events PENDING again; see `Outbox.redrive`."""
        self._loop.check("outbox.redrive")
        return self._repair(ids, fences, self._repairs().redrive)

    async def skip(self, ids: Sequence[str]) -> Repaired:
        """Set events aside that block their ordering keys; see `Outbox.skip`."""
        self._loop.check("outbox.skip")
        repairs = self._repairs()
        return self._repair(ids, None, lambda event_id, _: repairs.skip(event_id))

    async def discard(
        self, ids: Sequence[str], *, reason: str, by: str, fences: Mapping[str, str] | None = None
    ) -> Repaired:
        """Make events DISCARDED that are FAILED, PENDING, HELD or QUEUED; see `Outbox.discard`."""
        self._loop.check("outbox.discard")
        repairs, discard = self._repairs(), Discard(reason=reason, by=by, at=self._options.clock())
        return self._repair(ids, fences, lambda event_id, fence: repairs.discard(event_id, discard, fence))

    async def replace(self, id: str, event: Event, *, reason: str, by: str) -> Repaired:
        """Store an event in place of another one, which becomes DISCARDED; see `Outbox.replace`."""
        self._loop.check("outbox.replace")
        now = self._options.clock()
        item, _ = encode_event(event, due_at=now, numbers=self._options.numbers)
        old, new = self._table.find(id), self._stored(event.id)
        if old is not None and new is not None and old.discarded is not None and old.discarded.replaced_by == event.id:
            return Repaired(done=(id,))
        if old is None or not self._table.may_be_discarded(old):
            return Repaired(refused={id: None if old is None else old.status})
        if new is not None:
            raise DuplicateEventError(event_id=event.id, within="a transaction", stored=new)
        event.take_unpublished()
        self._repairs().replace(old, item, Discard(reason=reason, by=by, at=now, replaced_by=event.id))
        return Repaired(done=(id,))

    def _repairs(self) -> Repairs:
        return Repairs(self._table, self._options.clock(), self._on_unblocked)

    def _on_unblocked(self, stored: StoredEvent, repair: Literal["retry", "skip", "discard", "completed"]) -> None:
        if self._observers and stored.ordering_key is not None:
            self._observers.notify(
                KeyUnblocked(ordering_key=stored.ordering_key, event_id=stored.event_id, repair=repair)
            )

    async def hold(self, type: str | None, *, reason: str, by: str, until: datetime | None = None) -> None:
        """Order workers not to start events of a type, or of any type; see `Outbox.hold`."""
        self._loop.check("outbox.hold")
        since = datetime.fromtimestamp(self._options.clock(), UTC)
        self._table.holds[type] = Hold(type=type, reason=reason, by=by, since=since, until=until)

    async def resume(self, type: str | None) -> int:
        """End the hold of a type, and make its HELD events PENDING; see `Outbox.resume`."""
        self._loop.check("outbox.resume")
        self._table.holds.pop(type, None)
        return len(self._table.resume(lambda held: held == type))

    async def holds(self) -> list[Hold]:
        """List the holds that are in force; see `Outbox.holds`."""
        self._loop.check("outbox.holds")
        return in_order(self._table.holds_in_force(self._options.clock()))

    def _repair(
        self, ids: Sequence[str], fences: Mapping[str, str] | None, change: Callable[[str, Fence | None], bool]
    ) -> Repaired:
        seen = fences_of(fences)
        done: list[str] = []
        refused: dict[str, EventStatus | None] = {}
        for event_id in dict.fromkeys(ids):
            if change(event_id, seen.get(event_id)):
                done.append(event_id)
            else:
                refused[event_id] = self.status_of(event_id)
        return Repaired(done=tuple(done), refused=refused)


def _lease_lost(claim: Claim, outcome: str) -> LeaseLostError:
    return LeaseLostError(event_id=claim.event.id, event_type=claim.event.type, outcome=outcome)
