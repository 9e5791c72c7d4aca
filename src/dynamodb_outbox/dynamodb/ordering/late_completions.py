"""Lets a key go on whose event has ended, although a worker has made it FAILED.

A worker marks an event as COMPLETED when its handlers have succeeded, even if it has lost its lease by then. Another
worker holds the queue meanwhile. If its attempt is the last one and fails, it blocks the key, without a look at the
event. So each of the two workers reads the event and its queue after its own write. The worker that writes second sees
both writes, and takes the event from the front.

If a worker dies before it looks, the key stays blocked until an operator retries, skips or discards the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from dynamodb_outbox.dynamodb.ordering.repair_writes import RepairWrites
from dynamodb_outbox.dynamodb.ordering.standing import Standing, Standings
from dynamodb_outbox.dynamodb.transport.caller import Caller, TransactionRefused
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import KeyUnblocked, logger

TRIES: Final = 3
"""How often the queue of a key is read: an emit may change it between the read and the write."""


class LateCompletions:
    """Looks for events that have ended, and block their keys."""

    def __init__(self, caller: Caller, writes: RepairWrites, *, within: float) -> None:
        self._caller = caller
        self._writes = writes
        self._standings = Standings(caller, within=within)
        self._within = within

    async def unblock(self, event_ids: Sequence[str]) -> set[str]:
        """Take events that have ended from the fronts of queues that are FAILED.

        Returns their ids, and those of completed events that somebody else has taken from there. An error is logged:
        the key then waits for an operator.
        """
        gone: set[str] = set()
        left = list(dict.fromkeys(event_ids))
        try:
            for _ in range(TRIES):
                standings = await self._standings.read(left) if left else {}
                gone |= {each.event_id for each in standings.values() if _has_gone(each)}
                ended = [each for each in standings.values() if _has_ended(each)]
                if not ended:
                    break
                for each in ended:
                    if await self._take(each):
                        gone.add(each.event_id)
                left = [each.event_id for each in ended if each.event_id not in gone]
        except StorageError as error:
            logger.warning("it is unknown whether events have ended that block their ordering keys: %s", error)
        return gone

    async def statuses(self, event_ids: Sequence[str]) -> dict[str, EventStatus | None]:
        """Return the statuses of events; None means that the event is not stored. Raises `StorageError`."""
        standings = await self._standings.read(list(dict.fromkeys(event_ids)))
        return {event_id: standing.status for event_id, standing in standings.items()}

    async def _take(self, standing: Standing) -> bool:
        """Take an event from the front; tell whether it is gone. False if its queue has changed since."""
        entries = self._writes.pop(standing)
        try:
            await self._caller.call(
                "transact_write_items", within=self._within, TransactItems=entries, ClientRequestToken=uuid4().hex
            )
        except TransactionRefused:
            return False
        key = "" if standing.queue is None else standing.queue.key
        logger.info("ordering key %r goes on: its event %r has ended in another worker", key, standing.event_id)
        if self._caller.observers:
            observation = KeyUnblocked(ordering_key=key, event_id=standing.event_id, repair="completed")
            self._caller.observers.notify(observation)
        return True


def _has_ended(standing: Standing) -> bool:
    is_over = standing.event is not None and not standing.is_queued
    return is_over and standing.blocks_key and standing.has_next


def _has_gone(standing: Standing) -> bool:
    return standing.status is EventStatus.COMPLETED and not standing.blocks_key
