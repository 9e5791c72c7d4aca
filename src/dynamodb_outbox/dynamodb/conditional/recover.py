"""The writes that recover an event: PENDING with one retry more, or FAILED if no retry is left.

An event in the index and an event in a window differ only in their transitions and in what the conditions compare.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import (
    ENTER,
    ENTER_FAILED,
    RECOVER,
    RECOVER_FAILED,
    RECOVER_IN_PLACE,
    Transition,
    Write,
)
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import CONCURRENT_CALLS, ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, SHORT_ERROR_CHARS, error_text, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.transport.classify import concerns_all
from dynamodb_outbox.errors import ItemTooLargeError, StorageError
from dynamodb_outbox.port import LEASE_EXPIRED, LEASE_EXPIRED_TYPE, OutboxOptions

PORTION: Final = CONCURRENT_CALLS
"""How many events are recovered at a time: as many as updates are sent side by side."""
_ROOMS: Final = (Room.ENOUGH, Room.FOR_SHORT_ERROR, Room.FOR_NO_ERROR)


def _forms(transition: Transition) -> tuple[Transition, ...]:
    return tuple(fitted(transition, room) for room in _ROOMS)


@dataclass(frozen=True, slots=True)
class RecoverForms:
    """The forms of the two transitions. The first form needs the most room in the item.

    Without forms of `failed`, the number of retries has no limit here.
    """

    reset: tuple[Transition, ...]
    failed: tuple[Transition, ...]


LISTED: Final = RecoverForms(reset=_forms(RECOVER), failed=(*_forms(RECOVER_FAILED), RECOVER_IN_PLACE))
"""For an event in the index. The conditions compare `seen`, the end of the lease."""
UNLISTED: Final = RecoverForms(reset=_forms(ENTER), failed=_forms(ENTER_FAILED))
"""For an event in a window. The conditions compare `window`, the name of the window."""


@dataclass(frozen=True, slots=True)
class RecoverResults:
    """The results of a recovery: the last result of each event, and the ids of the reset and of the failed events."""

    results: dict[str, WriteResult]
    reset: list[str]
    failed: list[str]

    def extend(self, more: RecoverResults) -> None:
        """Add the results of other events."""
        self.results.update(more.results)
        self.reset.extend(more.reset)
        self.failed.extend(more.failed)

    def renamed(self, name: Callable[[str, WriteResult], str]) -> RecoverResults:
        """Return the results with other ids of the events that are recovered, made of the item's id and the result."""
        reset, failed = ([name(each, self.results[each]) for each in ids] for ids in (self.reset, self.failed))
        return RecoverResults(self.results, reset, failed)

    def errors(self) -> dict[str, StorageError]:
        """Return the errors by event id."""
        return {event_id: result for event_id, result in self.results.items() if isinstance(result, StorageError)}

    def error_of_all(self) -> StorageError | None:
        """Return an error that all other writes would have, too, such as a throttle."""
        return next(filter(concerns_all, self.errors().values()), None)


class RecoverWriter:
    """Writes the recovery of events, each in the form that its item has room for."""

    def __init__(self, writer: ConditionalWriter, options: OutboxOptions) -> None:
        self._writer = writer
        self._options = options

    async def recover(
        self,
        forms: RecoverForms,
        expired: Mapping[str, Mapping[str, AttributeValue]],
        *,
        max_retries: int,
        within: float,
        patient: bool,
    ) -> AsyncGenerator[RecoverResults]:
        """Recover events, and yield the results a few at a time; `expired` has the compared values by event id.

        Each portion is carried through to FAILED before the next: a throttle then wastes few billed refusals.
        """
        ids = list(expired)
        for start in range(0, len(ids), PORTION):
            writes = [Write(forms.reset[0], event_id, expired[event_id]) for event_id in ids[start : start + PORTION]]
            yield await _Portion(self._writer, self._options, max_retries, within, patient).recover(forms, writes)


@dataclass(frozen=True, slots=True)
class _Portion:
    writer: ConditionalWriter
    options: OutboxOptions
    max_retries: int
    within: float
    patient: bool

    async def recover(self, forms: RecoverForms, writes: Sequence[Write]) -> RecoverResults:
        """Reset events. If that is refused, fail them.

        Refused means that the event has changed or that no retry is left. If no retry is left, or the item has no room
        for the count, the event becomes FAILED. An event that has changed refuses that, too.
        """
        results = await self._write(forms.reset, writes)
        left = [
            write
            for write, result in zip(writes, results, strict=True)
            if forms.failed and isinstance(result, (Refused, ItemTooLargeError))
        ]
        of_id = {write.event_id: result for write, result in zip(writes, results, strict=True)}
        reset = [event_id for event_id, result in of_id.items() if isinstance(result, Applied)]
        last = {
            write.event_id: result for write, result in zip(left, await self._write(forms.failed, left), strict=True)
        }
        failed = [event_id for event_id, result in last.items() if isinstance(result, Applied)]
        return RecoverResults(of_id | last, reset, failed)

    async def _write(self, forms: Sequence[Transition], writes: Sequence[Write]) -> list[WriteResult]:
        """Write a transition, in the first of its forms that each item has room for."""
        if not forms:
            return []
        results = await self._write_form(forms[0], writes)
        for form in forms[1:]:
            too_large = [index for index, result in enumerate(results) if isinstance(result, ItemTooLargeError)]
            again = await self._write_form(form, [writes[index] for index in too_large])
            for index, result in zip(too_large, again, strict=True):
                results[index] = result
        return results

    async def _write_form(self, form: Transition, writes: Sequence[Write]) -> list[WriteResult]:
        values: dict[str, AttributeValue] = {
            "now": millis(self.options.clock()),
            "max": {"N": str(self.max_retries)},
            "one": {"N": "1"},
            "zero": {"N": "0"},
            "error_type": {"S": LEASE_EXPIRED_TYPE},
            "error": error_text(
                LEASE_EXPIRED, MAX_ERROR_CHARS if "startedOn" not in form.remove else SHORT_ERROR_CHARS
            ),
        }
        return await self.writer.write(
            [Write(form, write.event_id, {**values, **write.values}) for write in writes],
            within=self.within,
            patient=self.patient,
        )
