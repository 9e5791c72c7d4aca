"""Writing outcomes. Each write requires the token of the claim; the conditions are in `conditional/transitions.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.repair_transitions import HOLD
from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import (
    COMPLETE,
    COMPLETE_WITH_EXPIRY,
    FAIL,
    FAIL_UNCLAIMED,
    GIVE_BACK,
    RELEASE,
    RENEW,
    RETRY,
    WITH_HANDLED_BY,
    Transition,
    Write,
    no_longer_unhandled,
    without_details,
)
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.queue_exits import QueueExits
from dynamodb_outbox.dynamodb.delivering.unusable import Unusable
from dynamodb_outbox.dynamodb.items.codec import (
    MAX_ERROR_CHARS,
    MAX_ERROR_TYPE_BYTES,
    SHORT_ERROR_CHARS,
    Item,
    error_text,
    millis,
    short_text,
)
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.fronts import Unreadable
from dynamodb_outbox.dynamodb.ordering.queue import holder_of
from dynamodb_outbox.dynamodb.ordering.transitions import (
    MARK_COMPLETED,
    MARK_COMPLETED_WITH_EXPIRY,
    MARK_FAILED,
    MARK_FAILED_WITH_HANDLED_BY,
)
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.windows.keeper import WindowKeeper
from dynamodb_outbox.errors import (
    InvalidRequestError,
    ItemTooLargeError,
    LeaseLostError,
    OutboxError,
    StorageError,
    StoredEventError,
)
from dynamodb_outbox.handlers import MAX_NAME_BYTES
from dynamodb_outbox.observers import logger
from dynamodb_outbox.outcome import OUTCOME_NAMES, Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.port import RENEWAL, OutboxOptions, Settled

RENEWAL_PART: Final = 1 / 6
"""The part of a lease for which one renewal is tried."""
NO_ROOM: Final = "it is too large: a claim has no room in it"


class Settler:
    """Writes the outcomes of claims."""

    def __init__(
        self,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        keeper: WindowKeeper,
        exits: QueueExits,
        retention: float | None,
        timing: Timing,
    ) -> None:
        self._timing = timing
        self._exits = exits
        self._keeper = keeper
        self._writer = writer
        self._options = options
        self._retention = retention

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False) -> list[Settled]:
        """Write the outcomes; per settlement None, `LeaseLostError`, the error of the write, or the next claim."""
        if not settlements:
            return []
        now, started = self._options.clock(), anyio.current_time()
        # The time of the longest lease. A late write does no harm, because the token fences it.
        longest_left = max(claim.current_end for claim, _ in settlements) - now
        within = min(
            max(longest_left, self._timing.late_settle), max(self._options.processing_timeout, self._timing.late_settle)
        )

        def write_of(index: int, error_chars: int) -> Write:
            return self._write(*settlements[index], now, error_chars)

        results: Sequence[WriteResult | None] = [None] * len(settlements)
        try:
            results = answers = await self._write_all(write_of, len(settlements), within=within)
        finally:
            # Also when the caller was cancelled, which leaves every result open.
            for (claim, _), result in zip(settlements, results, strict=True):
                if isinstance(result, (Applied, Refused)):
                    self._keeper.answered(claim)
                else:
                    self._keeper.unanswered(claim)
        settled: list[WriteResult | Claim] = list(answers)
        # A refused mark was written before, by an earlier attempt or by a former worker.
        leaving = {
            index: claim
            for index, (claim, outcome) in enumerate(settlements)
            if self._exits.leaves(claim, outcome) and isinstance(answers[index], (Applied, Refused))
        }
        if leaving:
            left = max(within - (anyio.current_time() - started), self._timing.late_settle)
            popped = await self._exits.pop(list(leaving.values()), keep_keys=keep_keys, within=left)
            for index, result in zip(leaving, popped, strict=True):
                settled[index] = result
        return [
            result if isinstance(result, Claim) else _error(claim, OUTCOME_NAMES[type(outcome)], result)
            for (claim, outcome), result in zip(settlements, settled, strict=True)
        ]

    async def renew(self, renewals: Sequence[tuple[Claim, float]]) -> list[OutboxError | None]:
        """Move leases to new deadlines (epoch seconds); per renewal None, `LeaseLostError`, or the write's error.

        The renewal of an event of a window moves the event into the index.
        """
        writes = [
            Write(RENEW, holder_of(claim), {"token": {"S": claim.token}, "deadline": millis(expires_at)})
            for claim, expires_at in renewals
        ]
        # Short, because the worker repeats a failed renewal while the lease still holds.
        within = self._options.processing_timeout * RENEWAL_PART
        results = await self._writer.write(writes, within=within, urgent=True)
        for (claim, _), result in zip(renewals, results, strict=True):
            if isinstance(result, (Applied, Refused)):
                self._keeper.answered(claim)
        return [_error(claim, RENEWAL, result) for (claim, _), result in zip(renewals, results, strict=True)]

    async def fail_unusable(self, unreadable: Sequence[Unreadable], without_room: Sequence[Item]) -> list[Unusable]:
        """Make items FAILED that no handler can get, and return the error of each.

        `unreadable` are claimed items that are not readable events; `without_room` are the rows of due items that are
        too large for a claim.
        """
        return [*await self._fail_unreadable(unreadable), *await self._fail_without_room(without_room)]

    async def _fail_unreadable(self, unreadable: Sequence[Unreadable]) -> list[Unusable]:
        if not unreadable:
            return []
        now = millis(self._options.clock())

        def write_of(index: int, error_chars: int) -> Write:
            each = unreadable[index]
            error = each.error
            values: dict[str, AttributeValue] = {"token": {"S": each.token}, "now": now, "retries": {"N": "0"}}
            values["error"] = error_text(str(error), error_chars)
            failed = Failed(error=str(error), error_type=type(error).__name__)
            is_set_aside = each.queue is not None and self._exits.skips
            transition = _with_details(MARK_FAILED if is_set_aside else FAIL, failed, values)
            return Write(transition, error.event_id if is_set_aside else each.holder, values)

        results = await self._write_all(write_of, len(unreadable), within=self._timing.late_settle)
        if self._exits.skips:
            await self._exits.give_up([each for each in unreadable if each.queue is not None])
        return [
            Unusable(each.error, isinstance(result, Applied), None if self._exits.skips else each.queue)
            for each, result in zip(unreadable, results, strict=True)
        ]

    async def _fail_without_room(self, rows: Sequence[Item]) -> list[Unusable]:
        errors = [StoredEventError(event_id=row["id"]["S"], reason=NO_ROOM) for row in rows]

        def write_of(index: int, error_chars: int) -> Write:
            values = {"seen": rows[index]["gsiSortKey"], "error": error_text(NO_ROOM, error_chars)}
            return Write(FAIL_UNCLAIMED, rows[index]["id"]["S"], values)

        results = await self._write_all(write_of, len(rows), within=self._timing.late_settle)
        return [Unusable(error, isinstance(result, Applied)) for error, result in zip(errors, results, strict=True)]

    async def _write_all(
        self, write_of: Callable[[int, int], Write], count: int, *, within: float
    ) -> list[WriteResult]:
        """Make writes, each built by `write_of(index, error_chars)`. Without room in an item, try smaller forms."""
        writes = [write_of(index, MAX_ERROR_CHARS) for index in range(count)]
        results = await self._writer.write(writes, within=within, urgent=True)
        for room in (Room.FOR_SHORT_ERROR, Room.FOR_NO_ERROR, Room.FOR_NOTHING):
            again = [index for index, result in enumerate(results) if _needs_less(result, writes[index], room)]
            if not again:
                continue
            smaller = [write_of(index, SHORT_ERROR_CHARS) for index in again]
            smaller = [replace(write, transition=fitted(write.transition, room)) for write in smaller]
            retried = await self._writer.write(smaller, within=within, urgent=True)
            for index, write, result in zip(again, smaller, retried, strict=True):
                results[index] = result
                if isinstance(result, Applied) and write.transition.add != writes[index].transition.add:
                    logger.warning(
                        "The names of the handlers that succeeded could not be stored with event %r: its item is full "
                        "or its handledBy is not a set of strings. They run again with its next attempt. Store large "
                        "payloads elsewhere, or give the handlers shorter names",
                        write.event_id,
                    )
        return results

    def _write(self, claim: Claim, outcome: Outcome, now: float, error_chars: int) -> Write:
        values: dict[str, AttributeValue] = {"token": {"S": claim.token}, "now": millis(now)}
        leaves = self._exits.leaves(claim, outcome)
        match outcome:
            case Completed():
                transition = MARK_COMPLETED if leaves else COMPLETE
                if self._retention is not None:
                    transition = MARK_COMPLETED_WITH_EXPIRY if leaves else COMPLETE_WITH_EXPIRY
                    values["expiry"] = {"N": str(int(now + self._retention))}
            case Retry(delay=delay, error=error, handled_by=handled_by):
                # After attempt n there have been n - 1 retries, and the next attempt is retry n. An absolute number
                # makes a repeat harmless.
                values |= {"retries": {"N": str(claim.attempt)}, "due": millis(now + delay)}
                values["error"] = error_text(error, error_chars)
                transition = _with_details(_with_handled_by(RETRY, handled_by, values), outcome, values)
            case Failed(error=error, handled_by=handled_by):
                values["error"] = error_text(error, error_chars)
                values["retries"] = {"N": str(claim.attempt - 1)}
                handled_by = handled_by | claim.handled_by if leaves else handled_by
                transition = _with_handled_by(MARK_FAILED if leaves else FAIL, handled_by, values)
                transition = _with_details(transition, outcome, values)
            case Released(handled_by=handled_by, delay=delay, unhandled_since=since):
                values["due"] = millis(now + delay)
                if since is not None:
                    values["since"] = millis(since)
                transition = _with_handled_by(RELEASE if since is None else GIVE_BACK, handled_by, values)
            case Held(due_at=due_at):
                values["due"] = millis(due_at)
                return self._exits.hold(claim, values) or Write(HOLD, claim.event.id, values)
        if leaves:
            return Write(transition, claim.event.id, values)
        if claim.unhandled_since is not None and "since" not in values:
            transition = no_longer_unhandled(transition)
        return Write(transition, holder_of(claim), values)


def _needs_less(result: WriteResult, write: Write, room: Room) -> bool:
    """Tell whether to repeat a write in the form for this room."""
    # Another program may have stored a handledBy that is not a set. No name can be added to it.
    takes_no_names = isinstance(result, InvalidRequestError) and bool(write.transition.add) and room is Room.FOR_NOTHING
    return isinstance(result, ItemTooLargeError) or takes_no_names


def _with_handled_by(
    transition: Transition, handled_by: frozenset[str], values: dict[str, AttributeValue]
) -> Transition:
    if not handled_by:
        return transition
    values["handled"] = {"SS": sorted(handled_by)}
    return MARK_FAILED_WITH_HANDLED_BY if transition is MARK_FAILED else WITH_HANDLED_BY[transition]


def _with_details(transition: Transition, outcome: Retry | Failed, values: dict[str, AttributeValue]) -> Transition:
    """Add the class of an error and its handler, and remove the stored ones if the outcome does not name them."""
    missing: list[str] = []
    for attribute, name, text, limit in (
        ("errorType", "error_type", outcome.error_type, MAX_ERROR_TYPE_BYTES),
        ("errorHandler", "error_handler", outcome.error_handler, MAX_NAME_BYTES),
    ):
        if text:
            values[name] = short_text(text, limit)
        else:
            missing.append(attribute)
    return without_details(transition, tuple(missing)) if missing else transition


def _error(claim: Claim, name: str, result: WriteResult) -> OutboxError | None:
    match result:
        case Applied():
            return None
        case Refused(repeated=True) if name in (OUTCOME_NAMES[Released], OUTCOME_NAMES[Held]):
            # The other outcomes accept their own repeat, RELEASE and HOLD do not. Refused after a lost response:
            # released, or lost. Either way this worker holds nothing more.
            return None
        case Refused():
            return LeaseLostError(event_id=claim.event.id, event_type=claim.event.type, outcome=name)
        case StorageError():
            return result
