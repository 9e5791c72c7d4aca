"""Items that no handler can get, such as an item without a type: they become FAILED, and are reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.dynamodb.conditional.fitted_writes import FittedWriter, with_details
from dynamodb_outbox.dynamodb.conditional.transitions import FAIL, FAIL_UNCLAIMED, Transition, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, WriteResult, is_marked
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.queue_exits import QueueExits
from dynamodb_outbox.dynamodb.items.codec import Item, error_text, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.fronts import Unreadable
from dynamodb_outbox.dynamodb.ordering.queue import Queue
from dynamodb_outbox.dynamodb.ordering.transitions import MARK_FAILED
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import OutboxError, StoredEventError
from dynamodb_outbox.observers import EventFailed, KeyBlocked, Observers
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.reporting import Report

NO_ROOM: Final = "it is too large: a claim has no room in it"


@dataclass(frozen=True, slots=True)
class Unusable:
    """The error of an item, whether the item is FAILED now, and the queue that it blocks."""

    error: StoredEventError
    is_failed: bool
    blocks: Queue | None = None


class UnusableItems:
    """Makes items FAILED that no handler can get."""

    def __init__(self, writer: ConditionalWriter, exits: QueueExits, options: OutboxOptions, timing: Timing) -> None:
        self._writer = FittedWriter(writer)
        self._exits = exits
        self._options = options
        self._timing = timing

    async def fail(self, unreadable: Sequence[Unreadable], without_room: Sequence[Item]) -> list[Unusable]:
        """Make items FAILED, and return the error of each.

        `unreadable` are claimed items that are not readable events; `without_room` are the rows of due items that are
        too large for a claim.
        """
        return [*await self._fail_unreadable(unreadable), *await self._fail_without_room(without_room)]

    async def _fail_unreadable(self, unreadable: Sequence[Unreadable]) -> list[Unusable]:
        if not unreadable:
            return []
        leaving: list[Unreadable] = []
        staying: list[Unreadable] = []
        for each in unreadable:
            (leaving if each.queue is not None and self._exits.skips else staying).append(each)
        results = await self._make_failed(staying, self._writer, FAIL)
        writer = self._exits.writer_for({each.token: each.holder for each in leaving})
        marks = await self._make_failed(leaving, FittedWriter(writer), MARK_FAILED)
        # Refused: it is marked already. Without a mark, an event that left its queue would be lost.
        if marked := [each for each, mark in zip(leaving, marks, strict=True) if is_marked(mark)]:
            await self._exits.give_up(marked)
        return [
            Unusable(each.error, isinstance(result, Applied), None if self._exits.skips else each.queue)
            for each, result in zip([*staying, *leaving], [*results, *marks], strict=True)
        ]

    async def _make_failed(
        self, unreadable: Sequence[Unreadable], writer: FittedWriter, transition: Transition
    ) -> list[WriteResult]:
        now = millis(self._options.clock())

        def write_of(index: int, error_chars: int) -> Write:
            each = unreadable[index]
            text = str(each.error)
            values: dict[str, AttributeValue] = {"token": {"S": each.token}, "now": now, "retries": {"N": "0"}}
            values["error"] = error_text(text, error_chars)
            detailed = with_details(transition, type(each.error).__name__, None, values)
            return Write(detailed, each.holder if transition is FAIL else each.error.event_id, values)

        return await writer.write(write_of, len(unreadable), within=self._timing.late_settle)

    async def _fail_without_room(self, rows: Sequence[Item]) -> list[Unusable]:
        errors = [StoredEventError(event_id=row["id"]["S"], reason=NO_ROOM) for row in rows]

        def write_of(index: int, error_chars: int) -> Write:
            values = {"seen": rows[index]["gsiSortKey"], "error": error_text(NO_ROOM, error_chars)}
            return Write(FAIL_UNCLAIMED, rows[index]["id"]["S"], values)

        results = await self._writer.write(write_of, len(rows), within=self._timing.late_settle)
        return [Unusable(error, isinstance(result, Applied)) for error, result in zip(errors, results, strict=True)]


async def report_unusable(
    items: Sequence[Unusable],
    *,
    report: Report | None,
    default: Callable[[OutboxError], Awaitable[None]],
    observers: Observers,
) -> None:
    """Report the error of each item, and notify observers of each item that is FAILED now."""
    for item in items:
        error = item.error
        if report is not None:
            report(error)
        else:
            await default(error)
        if item.is_failed and observers:
            observers.notify(
                EventFailed(event_id=error.event_id, event_type="?", attempt=0, error=str(error), reason="unreadable")
            )
            if item.blocks is not None:
                observers.notify(KeyBlocked(ordering_key=item.blocks.key, event_id=error.event_id, event_type="?"))
