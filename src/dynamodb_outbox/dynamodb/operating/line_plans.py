"""What each repair of an event with an ordering key writes, by where the event stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import Write
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.operating.discards import Discards
from dynamodb_outbox.dynamodb.operating.line_repairs import Answer, Plan
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.ordering.repair_writes import RepairWrites, seen_in
from dynamodb_outbox.dynamodb.ordering.standing import Standing, key_of
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.fences import Fence

FAILED: Final = EventStatus.FAILED.value
FREE: Final = (EventStatus.FAILED.value, EventStatus.PENDING.value, EventStatus.HELD.value)
"""The statuses of a queue that no worker holds."""
_DELIVERY: Final = ("retryCount", "lastError", "errorType", "errorHandler", "claimedBy")


class LinePlans:
    """Decides what a repair writes."""

    def __init__(self, writes: RepairWrites, discards: Discards) -> None:
        self._writes = writes
        self._discards = discards

    async def retry(self, standing: Standing, room: Room, *, fence: Fence | None) -> Plan | Answer:
        """A blocking event is due again in its place; an event that was set aside goes to the end of the line."""
        if standing.blocks_key or is_queue_id(standing.event_id):
            if not _is_as_seen(standing.queue_item, fence) or _status_in(standing.queue_item) != FAILED:
                return Answer.REFUSED
            back = self._writes.return_to_line(standing) if _status_in(standing.event) == FAILED else []
            return Plan([*back, *self._writes.retry(standing)], unblocks="retry")
        event, key = standing.event, None if standing.event is None else key_of(standing.event)
        if key is None or _status_in(event) != FAILED or not _is_as_seen(event, fence):
            return Answer.REFUSED
        back = self._writes.return_to_line(standing)
        if standing.is_front:
            # A worker has failed the event, and has not taken it from the front yet. If it holds the queue, it will.
            is_due = _status_in(standing.queue_item) == EventStatus.PENDING.value
            return Plan([*back, *self._writes.retry(standing)]) if is_due else Answer.BUSY
        if standing.queue is not None and standing.event_id in standing.queue.known_ids:
            return Plan([*back, *self._writes.check_behind(key, standing.event_id, listed=True)])
        return Plan([*back, *self._writes.append(standing, key=key, event_id=standing.event_id)])

    async def skip(self, standing: Standing, room: Room) -> Plan | Answer:
        """A blocking event is set aside, and the next event of its key is due."""
        if not standing.blocks_key or not standing.has_next:
            return Answer.REFUSED
        aside = self._writes.set_aside(standing, room) if standing.is_queued else []
        return Plan([*aside, *self._writes.pop(standing)], unblocks="skip")

    async def discard(
        self, standing: Standing, room: Room, *, values: Mapping[str, AttributeValue], fence: Fence | None
    ) -> Plan | Answer:
        """An event leaves its line for good. Behind the front, it stays listed, and its turn is skipped."""
        event = standing.event
        if event is None or key_of(event) is None:
            return Answer.REFUSED
        status = _status_in(event)
        if status == EventStatus.DISCARDED.value and not standing.blocks_key:
            is_repeat = event.get("discardedOn") == values["now"] and event.get("discardedBy") == values["by"]
            return Answer.DONE if is_repeat else Answer.REFUSED
        leaves = self.leave(standing, fence=fence)
        if leaves is None or not (standing.is_queued or status in (FAILED, EventStatus.DISCARDED.value)):
            return Answer.REFUSED
        if status != EventStatus.DISCARDED.value:
            leaves = Plan([self._writes.update(self.discarded(standing, values, room)), *leaves.entries])
        return replace(leaves, unblocks="discard" if standing.blocks_key else None)

    def leave(self, standing: Standing, *, fence: Fence | None) -> Plan | None:
        """Return the writes by which the queue lets an event go; None if a worker holds it, or if it has changed."""
        key = None if standing.event is None else key_of(standing.event)
        if standing.is_front:
            is_free = _status_in(standing.queue_item) in FREE and standing.has_next
            # An event that has failed and is still at the front was seen as it is itself, or as its queue is.
            seen = standing.queue_item if standing.is_queued or standing.blocks_key else standing.event
            return Plan(self._writes.pop(standing)) if is_free and _is_as_seen(seen, fence) else None
        if key is None or not _is_as_seen(standing.event, fence):
            return None
        return Plan(self._writes.check_behind(key, standing.event_id) if standing.is_queued else [])

    def discarded(self, standing: Standing, values: Mapping[str, AttributeValue], room: Room) -> Write:
        """Return the discard of an event, as it was read."""
        event = standing.event or {}
        write = self._discards.write(standing.event_id, values, None, room)
        condition = "status = :was" if standing.is_queued else "status = :was AND gsiSortKey = :seen"
        write = Write(
            replace(write.transition, condition=condition), write.event_id, {**write.values, **seen_in(event)}
        )
        if standing.is_front and standing.is_queued and room is Room.ENOUGH:
            return _with_delivery(write, standing.queue_item or {})
        return write


def _with_delivery(write: Write, queue: Mapping[str, AttributeValue]) -> Write:
    """Let a discarded event keep what its queue knows of its handlers and of its last error, for operators."""
    known = [name for name in _DELIVERY if name in queue]
    transition = write.transition.also_set(*(f"{name} = :{name}" for name in known))
    values = {**write.values, **{name: queue[name] for name in known}}
    if "handledBy" in queue:
        transition, values = transition.also_add("handledBy", ":handled"), {**values, "handled": queue["handledBy"]}
    return Write(transition, write.event_id, values)


def _status_in(item: Mapping[str, AttributeValue] | None) -> str:
    return str((item or {}).get("status", {}).get("S", ""))


def _is_as_seen(item: Mapping[str, AttributeValue] | None, fence: Fence | None) -> bool:
    """Tell whether an event or a queue is as somebody saw it."""
    if fence is None:
        return True
    sort_key = (item or {}).get("gsiSortKey", {}).get("N", "")
    return _status_in(item) == fence.status.value and str(sort_key) == fence.sort_key
