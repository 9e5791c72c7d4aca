"""Repairs of events by their ids: redrive, skip and discard.

Each is one conditional write for an event. The events with an ordering key that it refuses are repaired together with
their queues; see `line_repairs.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from dynamodb_outbox.dynamodb.conditional.repair_transitions import REDRIVE_SEEN
from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import REDRIVE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import Item, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.operating.discards import Discards, seen_by
from dynamodb_outbox.dynamodb.operating.line_plans import LinePlans
from dynamodb_outbox.dynamodb.operating.line_repairs import LineRepairs, LineResult
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.ordering.standing import Standing, key_of
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.errors import ItemTooLargeError, StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.fences import Fence, fences_of
from dynamodb_outbox.observers import logger
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.repairs import DISCARDABLE, Repaired

CHUNK: Final = BATCH_GET
"""How many events are repaired before the next ones: four batches of statements, and one read of refused events."""
_IsDone = Callable[[EventStatus | None, bool], bool]


@dataclass(slots=True)
class _SoFar:
    done: list[str] = field(default_factory=list[str])
    refused: dict[str, EventStatus | None] = field(default_factory=dict[str, EventStatus | None])

    def add(self, results: Mapping[str, LineResult]) -> None:
        self.done += [event_id for event_id, result in results.items() if result.is_done]
        self.refused |= {event_id: result.status for event_id, result in results.items() if not result.is_done}

    def result(self, ids: Sequence[str]) -> Repaired:
        """Return the result, in the order of the call."""
        done = set(self.done)
        in_order = dict.fromkeys(ids)
        return Repaired(
            done=tuple(each for each in in_order if each in done),
            refused={each: self.refused[each] for each in in_order if each in self.refused},
        )


class Repairs:
    """Makes FAILED events PENDING, and events that wait DISCARDED. Sets events aside that block their ordering keys."""

    def __init__(
        self,
        caller: Caller,
        writer: ConditionalWriter,
        options: OutboxOptions,
        timing: Timing,
        *,
        discards: Discards,
        plans: LinePlans,
        lines: LineRepairs,
    ) -> None:
        self._caller = caller
        self._writer = writer
        self._options = options
        self._timing = timing
        self._discards = discards
        self._plans = plans
        self._lines = lines

    async def redrive(self, ids: Sequence[str], *, fences: Mapping[str, str] | None) -> Repaired:
        """Make FAILED events PENDING. Raises `StorageError` if a write fails; the call may be repeated.

        If DynamoDB did not answer the first write of an event and refused the second, the event counts as done: the
        first was applied.
        """
        so_far = _SoFar()
        for chunk, seen in _chunks(ids, fences):
            values = {"now": millis(self._options.clock()), "zero": {"N": "0"}}
            tried = [each for each in _events_in(chunk) if each not in seen or seen[each].status is EventStatus.FAILED]
            writes = [
                Write(REDRIVE_SEEN if each in seen else REDRIVE, each, values | seen_by(seen.get(each)))
                for each in tried
            ]
            results = dict(zip(tried, await self._writer.write(writes, within=self._timing.operator), strict=True))
            left = await self._record(chunk, results, so_far, is_done=_is_redriven)
            planners = {each: partial(self._plans.retry, fence=seen.get(each)) for each in left}
            so_far.add(await self._lines.repair(planners, is_applied=_is_stored))
        return so_far.result(ids)

    async def skip(self, ids: Sequence[str]) -> Repaired:
        """Set events aside that block their ordering keys. Raises `StorageError`; the call may be repeated."""
        so_far = _SoFar()
        for chunk, _ in _chunks(ids, None):
            so_far.add(await self._lines.repair(dict.fromkeys(chunk, self._plans.skip), is_applied=_is_set_aside))
        return so_far.result(ids)

    async def discard(self, ids: Sequence[str], *, reason: str, by: str, fences: Mapping[str, str] | None) -> Repaired:
        """Make events DISCARDED that no worker holds. Raises `StorageError`; the call may be repeated."""
        so_far = _SoFar()
        for chunk, seen in _chunks(ids, fences):
            values = self._discards.values(reason=reason, by=by)
            tried = [each for each in _events_in(chunk) if each not in seen or seen[each].status in DISCARDABLE]
            results: dict[str, WriteResult] = {}
            for room in Room:
                writes = [self._discards.write(each, values, seen.get(each), room) for each in tried]
                written = await self._writer.write(writes, within=self._timing.operator)
                results |= dict(zip(tried, written, strict=True))
                tried = [each for each in tried if isinstance(results[each], ItemTooLargeError)]
            left = await self._record(chunk, results, so_far, is_done=_is_discarded)
            # A queue is not an event: nobody may discard it.
            so_far.refused |= {each: None for each in left if is_queue_id(each)}
            plan = partial(self._plans.discard, values=values)
            planners = {each: partial(plan, fence=seen.get(each)) for each in left if not is_queue_id(each)}
            so_far.add(await self._lines.repair(planners, is_applied=_is_gone, waits_for_emits=True))
        return so_far.result(ids)

    async def _record(
        self, chunk: Sequence[str], results: Mapping[str, WriteResult], so_far: _SoFar, *, is_done: _IsDone
    ) -> list[str]:
        """Record the results of a chunk, and the status of each event that was not changed. Raises the first error.

        Returns the events with an ordering key that were not changed: their queues have to be read. An event whose item
        has no room for the write is refused, so that it does not end the repair of many others.
        """
        for event_id, result in results.items():
            if isinstance(result, ItemTooLargeError):
                logger.warning("event %r could not be changed, because its item is full: %s", event_id, result)
            elif isinstance(result, StorageError):
                raise result
        items = await self._read([each for each in chunk if not isinstance(results.get(each), Applied)])
        left: list[str] = []
        for event_id in chunk:
            answer, item = results.get(event_id), items.get(event_id, {})
            status, is_keyed = status_of(item), key_of(item) is not None
            if isinstance(answer, Applied) or (answer == Refused(repeated=True) and is_done(status, is_keyed)):
                so_far.done.append(event_id)
            elif is_keyed and not isinstance(answer, StorageError):
                left.append(event_id)
            else:
                so_far.refused[event_id] = status
        return left

    async def _read(self, ids: Sequence[str]) -> dict[str, Item]:
        """Read the status and the ordering key of events, as they are in the table now."""
        attributes = ("id", "status", "orderingKey")
        if not ids:
            return {}
        return await get_items(self._caller, ids, within=self._timing.operator, attributes=attributes)


def status_of(item: Mapping[str, AttributeValue]) -> EventStatus | None:
    """Read the status of an item; None if it is not an event, such as a tombstone."""
    stored: Any = item.get("status", {}).get("S")
    return EventStatus(stored) if stored in EventStatus.__members__ else None


def _is_redriven(status: EventStatus | None, is_keyed: bool) -> bool:  # noqa: FBT001 - read from the item
    """Tell whether a redrive that was not answered may have led to this status."""
    return status is not None and not is_keyed


def _is_discarded(status: EventStatus | None, is_keyed: bool) -> bool:  # noqa: FBT001 - read from the item
    return status is EventStatus.DISCARDED


def _is_stored(standing: Standing) -> bool:
    return standing.event is not None


def _is_set_aside(standing: Standing) -> bool:
    return standing.event is None or not standing.is_queued


def _is_gone(standing: Standing) -> bool:
    return standing.status is EventStatus.DISCARDED


def _events_in(chunk: Sequence[str]) -> list[str]:
    """Leave out the ids of queues. A queue that cannot be read is repaired by its own id."""
    return [each for each in chunk if not is_queue_id(each)]


def _chunks(ids: Sequence[str], fences: Mapping[str, str] | None) -> Iterator[tuple[list[str], dict[str, Fence]]]:
    """Divide ids into chunks without repetition, each with the fences of its events."""
    seen = fences_of(fences)
    unique = iter(dict.fromkeys(ids))
    while chunk := list(itertools.islice(unique, CHUNK)):
        yield chunk, {event_id: seen[event_id] for event_id in chunk if event_id in seen}
