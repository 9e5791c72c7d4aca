"""Writing outcomes. Each write requires the token of the claim; the conditions are in `conditional/transitions.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.fitted_writes import FittedWriter, with_details
from dynamodb_outbox.dynamodb.conditional.repair_transitions import HOLD
from dynamodb_outbox.dynamodb.conditional.transitions import (
    COMPLETE,
    COMPLETE_WITH_EXPIRY,
    FAIL,
    GIVE_BACK,
    RELEASE,
    RENEW,
    RETRY,
    WITH_HANDLED_BY,
    Transition,
    Write,
    no_longer_unhandled,
)
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult, is_marked
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.queue_exits import QueueExits
from dynamodb_outbox.dynamodb.items.codec import error_text, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.queue import holder_of
from dynamodb_outbox.dynamodb.ordering.transitions import (
    MARK_COMPLETED,
    MARK_COMPLETED_WITH_EXPIRY,
    MARK_FAILED,
    MARK_FAILED_WITH_HANDLED_BY,
)
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.windows.keeper import WindowKeeper
from dynamodb_outbox.errors import LeaseLostError, OutboxError, StorageError, UnavailableError
from dynamodb_outbox.outcome import OUTCOME_NAMES, Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.port import RENEWAL, OutboxOptions, Settled

RENEWAL_PART: Final = 1 / 6
"""The part of a lease for which one renewal is tried."""


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
        self._fitted = FittedWriter(writer)
        self._options = options
        self._retention = retention

    async def settle(self, settlements: Sequence[tuple[Claim, Outcome]], *, keep_keys: bool = False) -> list[Settled]:
        """Write the outcomes; per settlement None, `LeaseLostError`, the error of the write, or the next claim."""
        if not settlements:
            return []
        # The time of the longest lease. A late write does no harm, because the token fences it.
        longest_left = max(claim.current_end for claim, _ in settlements) - self._options.clock()
        least = self._timing.late_settle
        within = min(max(longest_left, least), max(self._options.processing_timeout, least))
        ends_at = anyio.current_time() + within
        results: list[WriteResult | None] = [None] * len(settlements)
        obstacle: StorageError | None = None
        try:
            if any(self._exits.leaves(claim, outcome) for claim, outcome in settlements):
                obstacle = await self._exits.prepare(within=within)
            await self._write_outcomes(settlements, results, obstacle, within=within)
        finally:
            # Also when the caller was cancelled, which leaves every result open.
            for (claim, _), result in zip(settlements, results, strict=True):
                if isinstance(result, (Applied, Refused)):
                    self._keeper.answered(claim)
                else:
                    self._keeper.unanswered(claim)
        # A mark is refused if it was written before, by an earlier attempt or by a former worker.
        leaving = {
            index: claim
            for index, (claim, outcome) in enumerate(settlements)
            if self._exits.leaves(claim, outcome) and is_marked(results[index])
        }
        following: dict[int, WriteResult | Claim] = {}
        if leaving:
            left = max(ends_at - anyio.current_time(), least)
            popped = await self._exits.pop(list(leaving.values()), keep_keys=keep_keys, within=left)
            following = dict(zip(leaving, popped, strict=True))
        answers = [following.get(index, result) for index, result in enumerate(results)]
        answers = await self._exits.judge(settlements, results, answers)
        return [
            _answer(claim, OUTCOME_NAMES[type(outcome)], answer)
            for (claim, outcome), answer in zip(settlements, answers, strict=True)
        ]

    async def _write_outcomes(
        self,
        settlements: Sequence[tuple[Claim, Outcome]],
        results: list[WriteResult | None],
        obstacle: StorageError | None,
        *,
        within: float,
    ) -> None:
        """Write outcomes, and put the results into their places. A marked event needs no write.

        An `obstacle` keeps events from leaving their queues.
        """
        now = self._options.clock()
        unwritten: list[int] = []
        aside: list[int] = []
        for index, (claim, outcome) in enumerate(settlements):
            leaves = self._exits.leaves(claim, outcome)
            if leaves and obstacle is not None:
                results[index] = obstacle
            elif isinstance(outcome, Completed) and self._exits.take_mark(claim):
                results[index] = Applied()
            else:
                (aside if leaves and isinstance(outcome, Failed) else unwritten).append(index)

        async def write(writer: FittedWriter, indexes: Sequence[int]) -> None:
            def write_of(number: int, error_chars: int) -> Write:
                return self._write(*settlements[indexes[number]], now, error_chars)

            written = await writer.write(write_of, len(indexes), within=within)
            for index, result in zip(indexes, written, strict=True):
                results[index] = result

        if not aside:
            await write(self._fitted, unwritten)
            return
        claims = [settlements[index][0] for index in aside]
        aside_writer = self._exits.writer_for({claim.token: holder_of(claim) for claim in claims})
        async with anyio.create_task_group() as group:
            group.start_soon(write, self._fitted, unwritten)
            group.start_soon(write, FittedWriter(aside_writer), aside)

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
                transition = with_details(
                    _with_handled_by(RETRY, handled_by, values), outcome.error_type, outcome.error_handler, values
                )
            case Failed(error=error, handled_by=handled_by):
                values["error"] = error_text(error, error_chars)
                values["retries"] = {"N": str(claim.attempt - 1)}
                handled_by = handled_by | claim.handled_by if leaves else handled_by
                transition = _with_handled_by(MARK_FAILED if leaves else FAIL, handled_by, values)
                transition = with_details(transition, outcome.error_type, outcome.error_handler, values)
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


def _with_handled_by(
    transition: Transition, handled_by: frozenset[str], values: dict[str, AttributeValue]
) -> Transition:
    if not handled_by:
        return transition
    values["handled"] = {"SS": sorted(handled_by)}
    return MARK_FAILED_WITH_HANDLED_BY if transition is MARK_FAILED else WITH_HANDLED_BY[transition]


def _answer(claim: Claim, name: str, result: WriteResult | Claim | None) -> Settled:
    if result is None:
        # Something has cancelled a write, and not the settle.
        return UnavailableError(operation=f"a {name}", attempts=1, reason="it was cancelled", maybe_applied=True)
    return result if isinstance(result, Claim) else _error(claim, name, result)


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
