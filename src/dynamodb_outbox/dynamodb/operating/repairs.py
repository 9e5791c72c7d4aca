"""Repairs of events by their ids: redrive and discard. Each is one conditional write for an event."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dynamodb_outbox.dynamodb.conditional.repair_transitions import REDRIVE_SEEN, discard
from dynamodb_outbox.dynamodb.conditional.room import Room
from dynamodb_outbox.dynamodb.conditional.transitions import REDRIVE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, SHORT_ERROR_CHARS, Item, error_text, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
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
_IsDone = Callable[[EventStatus | None], bool]


@dataclass(slots=True)
class _SoFar:
    done: list[str] = field(default_factory=list[str])
    refused: dict[str, EventStatus | None] = field(default_factory=dict[str, EventStatus | None])

    def result(self) -> Repaired:
        return Repaired(done=tuple(self.done), refused=self.refused)


class Discards:
    """Builds the writes of discards."""

    def __init__(self, options: OutboxOptions, *, retention: float | None) -> None:
        self._options = options
        self._retention = retention

    def values(self, *, reason: str, by: str, replacement: str | None = None) -> dict[str, AttributeValue]:
        """Return the values of a discard that begins now. A repeat of the same write has the same values."""
        now = self._options.clock()
        values: dict[str, AttributeValue] = {"now": millis(now), "by": error_text(by), "reason": {"S": reason}}
        if self._retention is not None:
            values["expiry"] = {"N": str(int(now + self._retention))}
        if replacement is not None:
            values["replacement"] = {"S": replacement}
        return values

    def write(self, event_id: str, values: Mapping[str, AttributeValue], fence: Fence | None, room: Room) -> Write:
        """Return the discard of one event, in the form for this room."""
        transition = discard(
            fenced=fence is not None, expires="expiry" in values, replaced="replacement" in values, room=room
        )
        limit = MAX_ERROR_CHARS if room is Room.ENOUGH else SHORT_ERROR_CHARS
        shortened = {**values, "reason": error_text(values["reason"]["S"], limit)}
        return Write(transition, event_id, shortened | _seen(fence))


class Repairs:
    """Makes FAILED events PENDING, and events that wait DISCARDED."""

    def __init__(
        self, caller: Caller, writer: ConditionalWriter, options: OutboxOptions, timing: Timing, *, discards: Discards
    ) -> None:
        self._caller = caller
        self._writer = writer
        self._options = options
        self._timing = timing
        self._discards = discards

    async def redrive(self, ids: Iterable[str], *, fences: Mapping[str, str] | None) -> Repaired:
        """Make FAILED events PENDING. Raises `StorageError` if a write fails; the call may be repeated.

        If DynamoDB did not answer the first write of an event and refused the second, the event counts as done: the
        first was applied.
        """
        so_far = _SoFar()
        for chunk, seen in _chunks(ids, fences):
            values = {"now": millis(self._options.clock()), "zero": {"N": "0"}}
            tried = [each for each in chunk if each not in seen or seen[each].status is EventStatus.FAILED]
            writes = [
                Write(REDRIVE_SEEN if each in seen else REDRIVE, each, values | _seen(seen.get(each))) for each in tried
            ]
            results = dict(zip(tried, await self._writer.write(writes, within=self._timing.operator), strict=True))
            await self._record(chunk, results, so_far, is_done=_is_redriven)
        return so_far.result()

    async def discard(self, ids: Iterable[str], *, reason: str, by: str, fences: Mapping[str, str] | None) -> Repaired:
        """Make events DISCARDED that are FAILED, PENDING or HELD. Raises `StorageError`; the call may be repeated."""
        so_far = _SoFar()
        for chunk, seen in _chunks(ids, fences):
            values = self._discards.values(reason=reason, by=by)
            left = [each for each in chunk if each not in seen or seen[each].status in DISCARDABLE]
            results: dict[str, WriteResult] = {}
            for room in Room:
                writes = [self._discards.write(each, values, seen.get(each), room) for each in left]
                written = await self._writer.write(writes, within=self._timing.operator)
                results |= dict(zip(left, written, strict=True))
                left = [each for each in left if isinstance(results[each], ItemTooLargeError)]
            await self._record(chunk, results, so_far, is_done=_is_discarded)
        return so_far.result()

    async def _record(
        self, chunk: Sequence[str], results: Mapping[str, WriteResult], so_far: _SoFar, *, is_done: _IsDone
    ) -> None:
        """Record the results of a chunk, and the status of each event that was not changed. Raises the first error.

        An event whose item has no room for the write is refused, so that it does not end the repair of many others.
        """
        for event_id, result in results.items():
            if isinstance(result, ItemTooLargeError):
                logger.warning("event %r could not be changed, because its item is full: %s", event_id, result)
            elif isinstance(result, StorageError):
                raise result
        unchanged = [each for each in chunk if not isinstance(results.get(each), Applied)]
        statuses = await self.statuses(unchanged)
        for event_id in chunk:
            answer, status = results.get(event_id), statuses.get(event_id)
            if isinstance(answer, Applied) or (answer == Refused(repeated=True) and is_done(status)):
                so_far.done.append(event_id)
            else:
                so_far.refused[event_id] = status

    async def statuses(self, ids: Sequence[str]) -> dict[str, EventStatus | None]:
        """Read the status of events, as they are in the table now."""
        if not ids:
            return {}
        items = await get_items(self._caller, ids, within=self._timing.operator, attributes=("id", "status"))
        return {event_id: status_of(item) for event_id, item in items.items()}


def status_of(item: Mapping[str, AttributeValue]) -> EventStatus | None:
    """Read the status of an item; None if it is not an event, such as a tombstone."""
    stored: Any = item.get("status", {}).get("S")
    return EventStatus(stored) if stored in EventStatus.__members__ else None


def _is_redriven(status: EventStatus | None) -> bool:
    """Tell whether a redrive that was not answered may have led to this status."""
    return status is not None


def _is_discarded(status: EventStatus | None) -> bool:
    return status is EventStatus.DISCARDED


def _seen(fence: Fence | None) -> Item:
    return {} if fence is None else {"was": {"S": fence.status.value}, "seen": {"N": fence.sort_key or "0"}}


def _chunks(ids: Iterable[str], fences: Mapping[str, str] | None) -> Iterator[tuple[list[str], dict[str, Fence]]]:
    """Divide ids into chunks without repetition, each with the fences of its events."""
    seen = fences_of(fences)
    unique = iter(dict.fromkeys(ids))
    while chunk := list(itertools.islice(unique, CHUNK)):
        yield chunk, {event_id: seen[event_id] for event_id in chunk if event_id in seen}
