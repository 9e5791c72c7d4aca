"""Claim on emit for events with ordering keys: the write that creates a queue can claim it for this worker.

That write is an append, or a transaction that stores the event as well. The answer to an append shows the queue. After
a transaction, one consistent read shows the queues of all its keys.

The claim is certain if no other emit can have the id of the event, and the first attempt of the append was answered. If
an attempt was not answered, or another emit of the id may have appended the event before, the queue may have been
created, worked off and deleted since, and is now created again. So the event is loaded first, as after every other
claim of a queue: it may be done already. A transaction that was answered has stored the event itself, and only once.

An operator may discard or replace an event that is stored and in no queue yet. If the emit took longer than usual, the
event is loaded for that reason, too. An operator who comes sooner waits that long: see `LineRepairs.read_after_emits`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim
from dynamodb_outbox.dynamodb.ordering.appending import NewQueue
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival, Moment
from dynamodb_outbox.dynamodb.ordering.fronts import Fronts, HeldQueue, Unreadable
from dynamodb_outbox.dynamodb.ordering.queue import as_delivered, holder_of, queue_id, read_queue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.port import OutboxOptions


@dataclass(slots=True, eq=False)
class FirstEvent(Arrival):
    """The first event of a key in a transaction, which has the claim of the queue if the transaction creates it."""

    @property
    def is_wanted(self) -> bool:
        """Always: the commit goes on though its caller is cancelled."""
        return True


class ClaimsOnEmit:
    """Claims the queues that emits create, and hands the claims on."""

    def __init__(self, caller: Caller, fronts: Fronts, options: OutboxOptions, *, timing: Timing) -> None:
        self._caller = caller
        self._fronts = fronts
        self._options = options
        self._timing = timing
        self._releases: set[asyncio.Task[None]] = set()

    def first_event(self, event_id: str, item: Item, emit_claim: EmitClaim) -> FirstEvent:
        """Return the first event of a key in a transaction, as it will be stored."""
        return FirstEvent(event_id, began=Moment.now(self._options.clock), item=item, emit_claim=emit_claim)

    def new_queue(self, arrival: Arrival) -> NewQueue:
        """Return what a queue begins with that the write of this event creates. The lease begins now."""
        now = self._options.clock()
        if arrival.emit_claim is None or not arrival.is_new:
            return NewQueue(now=now)
        arrival.emit_claim.sending()
        return NewQueue(now=now, token=arrival.token, ends=now + self._options.processing_timeout)

    async def take(self, arrival: Arrival, item: Mapping[str, Any], *, is_certain: bool, within: float) -> None:
        """Hand the claim of an event on, if the write of the event has created this queue. Raises no errors."""
        queue = read_queue(item)
        if queue is None or not queue.is_held_with(arrival.token):
            return
        is_recent = Moment.now(self._options.clock).since(arrival.began) < self._timing.claim_without_read
        if is_certain and is_recent and arrival.is_sole and arrival.is_wanted:
            claim = decode_claim(as_delivered(arrival.item, item), numbers=self._options.numbers)
            arrival.claimed(replace(claim, queue=queue))
            return
        (loaded,) = await self._fronts.load([HeldQueue(item=dict(item))], within=within)
        if isinstance(loaded, Claim):
            is_ours = loaded.token == arrival.token and loaded.event.id == arrival.event_id
            if is_ours and arrival.is_wanted:
                arrival.claimed(loaded)
            else:
                await self._fronts.release({holder_of(loaded): loaded.token})
        elif isinstance(loaded, Unreadable):
            await self._fronts.release({loaded.holder: loaded.token})

    async def claim_created_queues(self, first_events: Mapping[str, FirstEvent], *, is_certain: bool) -> None:
        """Read the queues of the keys that a transaction has perhaps created, and hand their claims on.

        `first_events` has the first event of each key. Raises no errors.
        """
        if not first_events:
            return
        within = self._timing.created_queues
        try:
            items = await get_items(self._caller, [queue_id(key) for key in first_events], within=within)
        except StorageError:
            self.release_in_background(first_events)
            return
        async with anyio.create_task_group() as group:
            for key, first_event in first_events.items():
                if (item := items.get(queue_id(key))) is not None:
                    group.start_soon(partial(self.take, first_event, item, is_certain=is_certain, within=within))

    def release_in_background(self, first_events: Mapping[str, FirstEvent]) -> None:
        """Release the queues that a transaction has perhaps created, without keeping its caller waiting."""
        if first_events:
            task = asyncio.create_task(self.release(first_events), name="dynamodb-outbox queue releases")
            self._releases.add(task)
            task.add_done_callback(partial(self._on_released, first_events))

    def _on_released(self, first_events: Mapping[str, FirstEvent], task: asyncio.Task[None]) -> None:
        self._releases.discard(task)
        for first_event in first_events.values():
            if first_event.emit_claim is not None:
                first_event.emit_claim.released()

    async def finish(self) -> None:
        """Wait for the releases in the background."""
        while self._releases:
            await asyncio.wait(self._releases)

    async def release(self, first_events: Mapping[str, Arrival]) -> None:
        """Release the queues that a write may have created; `first_events` has the first event of each key."""
        await self._fronts.release({queue_id(key): each.token for key, each in first_events.items()})
