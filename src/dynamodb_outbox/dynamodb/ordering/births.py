"""Claim on emit for events with ordering keys: the append that creates a queue can claim it for this worker.

The claim is certain if no other emit can have the id of the event, and the first attempt of the append was answered. If
an attempt was not answered, or another emit of the id may have appended the event before, the queue may have been
created, worked off and deleted since, and is now created again. So the event is loaded first, as after every other
claim of a queue: it may be done already.

An operator may discard or replace an event that is stored and in no queue yet. If the emit took longer than usual, the
event is loaded for that reason, too. An operator who comes sooner waits that long: see `LineRepairs.read_after_emits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.transitions import RELEASE, Write
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import decode_claim, millis
from dynamodb_outbox.dynamodb.ordering.appending import Birth
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival, Moment
from dynamodb_outbox.dynamodb.ordering.fronts import Fronts, HeldQueue, Unreadable
from dynamodb_outbox.dynamodb.ordering.queue import as_delivered, holder_of, queue_id, read_queue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.port import OutboxOptions


class Births:
    """Claims the queues that appends create, and hands the claims on."""

    def __init__(self, fronts: Fronts, writer: ConditionalWriter, options: OutboxOptions, *, timing: Timing) -> None:
        self._fronts = fronts
        self._writer = writer
        self._options = options
        self._timing = timing

    def begin(self, arrival: Arrival) -> Birth:
        """Return what a queue begins with that an append of this event creates. The lease begins now."""
        now = self._options.clock()
        if arrival.emit_claim is None or not arrival.is_new:
            return Birth(now=now)
        arrival.emit_claim.sending()
        return Birth(now=now, token=arrival.token, ends=now + self._options.processing_timeout)

    async def take(self, arrival: Arrival, item: Mapping[str, Any], *, is_certain: bool, within: float) -> None:
        """Hand the claim of an event on, if the append of the event has created this queue. Raises no errors."""
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
                await self._release(holder_of(loaded), loaded.token)
        elif isinstance(loaded, Unreadable):
            await self._release(loaded.holder, loaded.token)

    async def give_up(self, arrival: Arrival, key: str) -> None:
        """Release the queue, if an append of the event that was not answered has created it."""
        await self._release(queue_id(key), arrival.token)

    async def _release(self, holder: str, token: str) -> None:
        """Make a queue due for all workers. After an error, recovery finds it when its lease ends."""
        write = Write(RELEASE, holder, {"token": {"S": token}, "due": millis(self._options.clock())})
        await self._writer.write([write], within=self._timing.late_settle, urgent=True)
