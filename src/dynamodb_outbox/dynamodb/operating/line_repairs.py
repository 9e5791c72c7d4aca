"""Repairs of events with an ordering key. Each is one transaction, of the event and the queue of its key.

A repair reads the event and its queue, and is refused by DynamoDB if one of them has changed since. Then it reads them
again, and decides again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, Literal
from uuid import uuid4

import anyio

from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.ordering.repair_writes import Entry
from dynamodb_outbox.dynamodb.ordering.standing import Standing, Standings, key_of
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, TransactionRefused
from dynamodb_outbox.dynamodb.transport.classify import with_maybe_applied
from dynamodb_outbox.dynamodb.transport.side_by_side import side_by_side
from dynamodb_outbox.errors import StorageError, UnavailableError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import KeyUnblocked, logger

OPERATION: Final = "transact_write_items"
TRIES: Final = 20
"""How often a repair begins again, because its key is in use: each emit and each delivery changes the queue."""


class Answer(Enum):
    """What a repair answers without a write."""

    DONE = "an earlier attempt was applied"
    REFUSED = "the event is not in a status for this repair"
    BUSY = "a worker has written the outcome of the event, and is about to take it from the front"


@dataclass(frozen=True, slots=True)
class Plan:
    """The writes of a repair, and how they unblock the key, if they do."""

    entries: Sequence[Entry]
    unblocks: Literal["retry", "skip", "discard"] | None = None


Planner = Callable[[Standing, Room], Awaitable[Plan | Answer]]
"""Decides what to write, by the event and its queue as they are now."""
Refuse = Callable[[TransactionRefused, Plan], object]
"""Raises an error if a refused transaction need not be tried again."""
IsApplied = Callable[[Standing], bool]
"""Tells whether a repair that was not answered may have been applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResult:
    """The result of the repair of one event: whether it is done, and the status of the event if it is not."""

    is_done: bool
    status: EventStatus | None = None


class LineRepairs:
    """Carries out repairs of events with an ordering key."""

    def __init__(self, caller: Caller, standings: Standings, timing: Timing) -> None:
        self._caller = caller
        self._standings = standings
        self._timing = timing

    async def read_after_emits(self, event_ids: Sequence[str]) -> dict[str, Standing]:
        """Read events and their queues; again after a while, if the emit of one may be about to list it.

        An emit that lists an event soon after it stored it claims it without a look whether it was discarded meanwhile.
        After the wait, such an event is in its queue, or its emit will look. Raises `StorageError`.
        """
        standings = await self._standings.read(event_ids)
        if await self._standings.any_may_be_arriving(standings.values()):
            await anyio.sleep(self._timing.wait_for_emit)
            standings = await self._standings.read(event_ids)
        return standings

    async def repair(
        self, planners: Mapping[str, Planner], *, is_applied: IsApplied, waits_for_emits: bool = False
    ) -> dict[str, LineResult]:
        """Repair events, by their ids. Raises `StorageError`.

        Keys are repaired side by side, and the events of a key in the order of the call.
        """
        read = self.read_after_emits if waits_for_emits else self._standings.read
        standings = await read(list(planners))
        by_key: dict[str | None, list[str]] = {}
        for event_id, standing in standings.items():
            by_key.setdefault(_key_in(standing), []).append(event_id)
        results: dict[str, LineResult] = {}

        async def repair_key(event_ids: Sequence[str]) -> None:
            for position, event_id in enumerate(event_ids):
                # The repair of one event changes the queue of the next.
                known = standings[event_id] if position == 0 else None
                results[event_id] = await self.repair_one(
                    event_id, planners[event_id], is_applied=is_applied, known=known
                )

        await side_by_side([partial(repair_key, event_ids) for event_ids in by_key.values()])
        return results

    async def repair_one(
        self,
        event_id: str,
        planner: Planner,
        *,
        is_applied: IsApplied,
        known: Standing | None = None,
        refuse: Refuse = lambda refused, plan: None,
    ) -> LineResult:
        """Repair an event, of which `known` was read already. Raises `StorageError`, and what `refuse` raises."""
        is_unsure, room = False, Room.ENOUGH
        for _ in range(TRIES):
            standing = known or (await self._standings.read([event_id]))[event_id]
            known = None
            plan = await planner(standing, room)
            if plan is Answer.BUSY:
                await anyio.sleep(self._timing.busy_line)
                continue
            if not isinstance(plan, Plan):
                is_done = plan is Answer.DONE or (is_unsure and is_applied(standing))
                return LineResult(is_done=is_done, status=standing.status)
            try:
                await self._commit(plan.entries)
            except TransactionRefused as refused:
                is_unsure = is_unsure or refused.repeated
                refuse(refused, plan)
                if refused.has_no_room and room < max(Room):
                    room, known = Room(room + 1), standing
                elif refused.has_no_room:
                    logger.warning("event %r could not be changed, because its item is full", event_id)
                    return LineResult(is_done=False, status=standing.status)
                elif not refused.has_false_condition:
                    raise _cancelled(refused, event_id) from None
                continue
            self._tell(plan, standing)
            return LineResult(is_done=True)
        return await self._give_up(event_id, is_unsure=is_unsure, is_applied=is_applied)

    async def _commit(self, entries: Sequence[Entry]) -> None:
        within = self._timing.transact
        await self._caller.call(OPERATION, within=within, TransactItems=list(entries), ClientRequestToken=uuid4().hex)

    def _tell(self, plan: Plan, standing: Standing) -> None:
        key = _key_in(standing)
        if plan.unblocks is not None and key is not None and self._caller.observers:
            observation = KeyUnblocked(ordering_key=key, event_id=standing.event_id, repair=plan.unblocks)
            self._caller.observers.notify(observation)

    async def _give_up(self, event_id: str, *, is_unsure: bool, is_applied: IsApplied) -> LineResult:
        standing = (await self._standings.read([event_id]))[event_id]
        if is_unsure and is_applied(standing):
            return LineResult(is_done=True)
        if standing.event is not None and not standing.is_queued:
            return LineResult(is_done=False, status=standing.status)
        reason = f"the queue of event {event_id!r} changed between each read and the write"
        raise UnavailableError(operation="a repair", attempts=TRIES, reason=reason, maybe_applied=is_unsure)


def _cancelled(refused: TransactionRefused, event_id: str) -> StorageError:
    error = StorageError(f"the repair of event {event_id!r} was refused: {refused.text}")
    return with_maybe_applied(error) if refused.repeated else error


def _key_in(standing: Standing) -> str | None:
    if standing.queue is not None:
        return standing.queue.key
    return None if standing.event is None else key_of(standing.event)
