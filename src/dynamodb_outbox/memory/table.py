"""The data of an `InMemoryOutbox`: its events, the queues of their ordering keys, and holds.

An event with an ordering key is QUEUED until it is COMPLETED, FAILED or DISCARDED. Meanwhile, the delivery of the event
at the front is kept with the queue of its key, as in DynamoDB. An event that is done leaves the queue when it is at the
front: at once, or when its turn comes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dynamodb_outbox.claims import Claim, HandlerDone
from dynamodb_outbox.dynamodb.emitting.transact_items import most_items_for
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.memory.storage import StoredEvent
from dynamodb_outbox.outcome import Completed, Failed, Outcome
from dynamodb_outbox.port import FailedKey
from dynamodb_outbox.repairs import DISCARDABLE, Hold

KEPT_IN_A_ROW: Final = 50
"""A worker handles this many events of a key in a row; then other keys have their turn."""


_IN_LINE: Final = (EventStatus.QUEUED, EventStatus.FAILED)
"""The statuses of events whose queue may say more about them."""


@dataclass(slots=True)
class Queue:
    """The events of a key that are not done, in order. `front` has the delivery of the first of them."""

    key: str
    ids: deque[str]
    front: StoredEvent
    kept: int = 1
    """How many events of the key the worker that holds it has begun since its last poll."""

    @property
    def is_blocked(self) -> bool:
        """Whether the later events wait, because the one at the front has failed."""
        return self.front.status is EventStatus.FAILED

    @property
    def waiting(self) -> int:
        """The number of events behind the front."""
        return len(self.ids) - 1


@dataclass(slots=True)
class Table:
    """The events by id, the queues by ordering key, and the holds by type."""

    events: dict[str, StoredEvent] = field(default_factory=dict[str, StoredEvent])
    queues: dict[str, Queue] = field(default_factory=dict[str, Queue])
    holds: dict[str | None, Hold] = field(default_factory=dict[str | None, Hold])

    # Finding

    def find(self, event_id: str) -> StoredEvent | None:
        """Find an event; that at the front of a queue has the delivery of the queue."""
        stored = self.events.get(event_id)
        queue = None if stored is None else self.queue_at(stored)
        return stored if queue is None else queue.front

    def shown(self, event_id: str) -> StoredEvent | None:
        """Find an event as an operator sees it: one that is done does not show that its queue is blocked."""
        own = self.events.get(event_id)
        return self.find(event_id) if own is not None and own.status in _IN_LINE else own

    def may_be_discarded(self, stored: StoredEvent) -> bool:
        """Tell whether no worker holds an event, and it is not done."""
        own = self.events[stored.event_id]
        return {own.status, stored.status} <= {*DISCARDABLE, EventStatus.QUEUED}

    def queue_at(self, stored: StoredEvent) -> Queue | None:
        """Return the queue of an event that is QUEUED and at the front, or blocks its key; else None."""
        queue = self.queues.get(stored.ordering_key or "")
        if queue is None or queue.ids[0] != stored.event_id:
            return None
        return None if self._is_done(stored.event_id) and not queue.is_blocked else queue

    def is_left(self, stored: StoredEvent) -> bool:
        """Tell whether this is the front of a queue, and done: the next claim takes it, without handlers."""
        queue = self.queues.get(stored.ordering_key or "")
        return queue is not None and queue.front is stored and self._is_done(stored.event_id) and not queue.is_blocked

    def front_before(self, stored: StoredEvent) -> str | None:
        """Return the id of the event at the front, if this event waits behind it."""
        queue = self.queues.get(stored.ordering_key or "")
        is_behind = queue is not None and stored.event_id in queue.ids and stored.status is EventStatus.QUEUED
        return queue.ids[0] if queue is not None and is_behind else None

    def held_by(self, claim: Claim) -> StoredEvent | None:
        """Return what bears the lease of a claim: the front of a queue, or the event itself; None if it is gone."""
        if claim.event.ordering_key is None:
            return self.events.get(claim.event.id)
        queue = self.queue_of(claim)
        return None if queue is None else queue.front

    def queue_of(self, claim: Claim) -> Queue | None:
        """Return the queue of a claim's event, if the event is at the front."""
        queue = self.queues.get(claim.event.ordering_key or "")
        return queue if queue is not None and queue.ids[0] == claim.event.id else None

    @property
    def rows(self) -> dict[str, StoredEvent]:
        """What the index has, by the ids of events: events that are not queued, and the fronts of the queues."""
        rows = {key: stored for key, stored in self.events.items() if stored.status is not EventStatus.QUEUED}
        return rows | {queue.ids[0]: queue.front for queue in self.queues.values()}

    def due(self, status: EventStatus, now: float) -> Iterator[StoredEvent]:
        """List what is due and has a status, the longest due first."""
        due = [
            (stored.sort_key, index, stored)
            for index, stored in enumerate(self.rows.values())
            if stored.status is status and stored.sort_key is not None and stored.sort_key <= round(now * 1000)
        ]
        return (stored for _, _, stored in sorted(due, key=lambda each: each[:2]))

    def holds_in_force(self, now: float) -> list[Hold]:
        """List the holds whose time is not over."""
        return [hold for hold in self.holds.values() if hold.until is None or hold.until.timestamp() > now]

    # Changing

    def resume(self, is_meant: Callable[[str], bool]) -> tuple[str, ...]:
        """Make HELD events of the types that are meant PENDING; return their ids."""
        held = [stored for stored in self.rows.values() if stored.status is EventStatus.HELD]
        return tuple(each.event_id for each in held if is_meant(each.item["type"]["S"]) and each.resume())

    def put(self, item: Item, *, due_at: float) -> StoredEvent | None:
        """Store an event. Return it if it can be claimed; None if it waits behind others of its key."""
        stored = StoredEvent(item, sort_key=round(due_at * 1000))
        self.events[stored.event_id] = stored
        return stored if stored.ordering_key is None else self.append(stored, due_at)

    def put_at_front(self, queue: Queue, item: Item, now: float) -> None:
        """Store an event in the place of the one at the front."""
        stored = StoredEvent(item, sort_key=None)
        stored.wait()
        self.events[stored.event_id] = stored
        queue.ids[0], queue.front = stored.event_id, stored.at_front(now)

    def append(self, stored: StoredEvent, now: float) -> StoredEvent | None:
        """Put an event at the end of the queue of its key; return the front if that is the event, else None."""
        key, event_id = stored.ordering_key or "", stored.event_id
        stored.wait()
        queue = self.queues.get(key)
        if queue is not None:
            queue.ids.append(event_id)
            return None
        self.queues[key] = queue = Queue(key, deque([event_id]), stored.at_front(now))
        return queue.front

    def pop(self, queue: Queue, now: float) -> None:
        """Take the event at the front; the next one is due, for every worker. If that one is done, a claim takes it.

        Events that were deleted are left out.
        """
        queue.ids.popleft()
        while queue.ids and queue.ids[0] not in self.events:
            queue.ids.popleft()
        if queue.ids:
            queue.front = self.events[queue.ids[0]].at_front(now)
        else:
            del self.queues[queue.key]

    def begin_row(self, stored: StoredEvent) -> None:
        """Count the events in a row from this one, which a worker takes after a poll."""
        if (queue := self.queue_at(stored)) is not None:
            queue.kept = 1

    def settle(self, claim: Claim, outcome: Outcome, now: float) -> bool:
        """Write the outcome of a claim to what bears its lease; tell whether it has the token of the claim."""
        if isinstance(outcome, Completed):
            # Also if the lease is lost: the handlers have succeeded, so that the next worker need not call them.
            self._mark_completed(claim, now)
        stored = self.held_by(claim)
        return stored is not None and stored.settle(claim, outcome, now)

    def unblock_late(self, claim: Claim, now: float) -> StoredEvent | None:
        """Take the event of a claim from the front of a blocked queue, and return it, if it is done.

        One worker has completed it after it had lost its lease, and the attempt of another one has failed.
        """
        queue, stored = self.queue_of(claim), self.events.get(claim.event.id)
        if queue is None or stored is None or not queue.is_blocked or not self._is_done(stored.event_id):
            return None
        self.pop(queue, now)
        return stored

    def leave(
        self, claim: Claim, outcome: Outcome, now: float, *, failed_key: FailedKey, keep_keys: bool
    ) -> StoredEvent | None:
        """Let a settled event leave its queue, if that is the outcome; return the next one if the worker keeps it."""
        queue = self.queue_of(claim)
        is_set_aside = isinstance(outcome, Failed) and failed_key == "skip"
        if queue is None or not (isinstance(outcome, Completed) or is_set_aside):
            return None
        if is_set_aside:
            self.set_aside(queue)
        kept = queue.kept + 1
        self.pop(queue, now)
        if not keep_keys or kept > KEPT_IN_A_ROW:
            return None
        self._drop_done_of(queue, now)
        if not queue.ids:
            return None
        queue.kept = kept
        return queue.front

    def is_completed_already(self, done: HandlerDone) -> bool:
        """Tell whether a transaction would complete an event with a key that another worker has completed."""
        return done.completes and done.claim.event.ordering_key is not None and self._is_done(done.claim.event.id)

    def on_recorded(self, done: HandlerDone, now: float) -> None:
        """Make an event COMPLETED if a transaction has completed it; it leaves its queue when it is settled."""
        if done.completes:
            self._mark_completed(done.claim, now)

    def _mark_completed(self, claim: Claim, now: float) -> None:
        if (stored := self.events.get(claim.event.id)) is not None and stored.status is EventStatus.QUEUED:
            stored.complete(now)

    def set_aside(self, queue: Queue) -> None:
        """Give the event at the front what the queue knows of its delivery: it is FAILED, and stays a dead letter.

        An event stays COMPLETED that a worker has completed which had lost its lease.
        """
        if not self._is_done(queue.ids[0]):
            self.events[queue.ids[0]] = queue.front

    def drop_done(self, now: float) -> None:
        """Take events from the fronts that are done, or were deleted, and that no worker holds."""
        for queue in list(self.queues.values()):
            self._drop_done_of(queue, now)

    def _drop_done_of(self, queue: Queue, now: float) -> None:
        while queue.ids and queue.front.status is EventStatus.PENDING and self._is_done(queue.ids[0]):
            self.pop(queue, now)

    def _is_done(self, event_id: str) -> bool:
        stored = self.events.get(event_id)
        return stored is None or stored.status is not EventStatus.QUEUED


def sizes_of(events: Sequence[tuple[Event, float | None]], done: HandlerDone | None) -> tuple[int, int]:
    """Count the items of a transaction for the record of a handler, and those for the queues of ordering keys."""
    ids = Counter(event.ordering_key for event, _ in events if event.ordering_key is not None)
    queues = sum(most_items_for(number) for number in ids.values())
    if done is None:
        return 0, queues
    key = done.claim.event.ordering_key
    # The record of an event with a key is written to its queue, which an append to this queue shares.
    return 1 + (done.completes and key is not None), queues - (key in ids)
