"""Replacing an event where the old or the new one has an ordering key: together with the queues of their keys.

At the front of its line, the old event gives its place to a new one of the same key. Otherwise the new event goes to
the end of its line, and the turn of the old one is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.emitting.publish_result import stored_event
from dynamodb_outbox.dynamodb.items.stored import status_of
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.operating.line_plans import LinePlans
from dynamodb_outbox.dynamodb.operating.line_repairs import Answer, LineRepairs, Plan
from dynamodb_outbox.dynamodb.ordering.repair_writes import Entry, RepairWrites
from dynamodb_outbox.dynamodb.ordering.standing import Standing, Standings, key_of
from dynamodb_outbox.dynamodb.transport.caller import FALSE_CONDITION, TransactionRefused
from dynamodb_outbox.errors import DuplicateEventError
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import Numbers
from dynamodb_outbox.repairs import DISCARDABLE, Repaired

_PUT, _OLD = 0, 1
"""The positions of the new and the old event in the transaction."""


class LineReplacer:
    """Stores an event in place of another one, and changes the queues of their keys."""

    def __init__(
        self, standings: Standings, lines: LineRepairs, plans: LinePlans, writes: RepairWrites, *, numbers: Numbers
    ) -> None:
        self._standings = standings
        self._lines = lines
        self._plans = plans
        self._writes = writes
        self._numbers: Numbers = numbers

    async def replace(
        self, event_id: str, event: Event, put: Entry, *, values: Mapping[str, AttributeValue]
    ) -> Repaired:
        """Put `event`, and discard the event of `event_id`, both or neither; see `Outbox.replace`."""

        async def plan(standing: Standing, room: Room) -> Plan | Answer:
            return await self._plan(standing, room, event=event, put=put, values=values)

        def refuse(refused: TransactionRefused, plan: Plan) -> None:
            self._refuse_duplicate(refused, event)

        known = (await self._lines.read_after_emits([event_id]))[event_id]
        result = await self._lines.repair_one(
            event_id, plan, is_applied=lambda standing: False, known=known, refuse=refuse
        )
        return Repaired(done=(event_id,)) if result.is_done else Repaired(refused={event_id: result.status})

    async def _plan(
        self, standing: Standing, room: Room, *, event: Event, put: Entry, values: Mapping[str, AttributeValue]
    ) -> Plan | Answer:
        old = standing.event
        if old is None:
            return Answer.REFUSED
        if old.get("replacedBy") == {"S": event.id}:
            return Answer.DONE
        leaves = self._plans.leave(standing, fence=None) if key_of(old) is not None else Plan([])
        # A worker may have completed the event, although its queue is FAILED.
        if leaves is None or not {standing.status, status_of(old)} <= set(DISCARDABLE):
            return Answer.REFUSED
        entries = [put, self._writes.update(self._plans.discarded(standing, values, room))]
        if event.ordering_key is None or event.ordering_key != key_of(old):
            entries += [*leaves.entries, *await self._joins(event)]
        elif standing.is_front:
            entries += self._writes.substitute(standing, replacement=event.id)
        else:
            behind = standing.event_id if standing.is_queued else None
            entries += self._writes.append(standing, key=event.ordering_key, event_id=event.id, behind=behind)
        return Plan(entries, unblocks="discard" if standing.blocks_key else None)

    async def _joins(self, event: Event) -> list[Entry]:
        """Return the writes by which an event enters the line of its key, if it has one."""
        if event.ordering_key is None:
            return []
        end = await self._standings.at_end(event.id, event.ordering_key)
        return self._writes.append(end, key=event.ordering_key, event_id=event.id)

    def _refuse_duplicate(self, refused: TransactionRefused, event: Event) -> None:
        """Raise `DuplicateEventError` if the id of the new event is stored, and the old event has not changed."""
        codes = [reason.get("Code", "None") for reason in refused.reasons]
        if codes[_PUT : _OLD + 1] == [FALSE_CONDITION, "None"]:
            stored = stored_event(refused.reasons[_PUT].get("Item"), numbers=self._numbers)
            raise DuplicateEventError(event_id=event.id, within="a transaction", stored=stored) from None
