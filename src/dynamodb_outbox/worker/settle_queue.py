"""Group commit of outcomes: outcomes that come while a write is under way go together with the next write.

Example: 8 handlers end while a batch is being written. The next batch has their 8 outcomes, in one request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import LeaseLostError, OutboxError, SettleError, UnavailableError, WorkerError
from dynamodb_outbox.observers import (
    EventCompleted,
    EventFailed,
    EventReleased,
    KeyBlocked,
    LeaseLost,
    Observation,
    RetryScheduled,
    SettleFailed,
    logger,
)
from dynamodb_outbox.outcome import OUTCOME_NAMES, Completed, Failed, Held, Outcome, Released, Retry
from dynamodb_outbox.port import Outbox, Settled
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.storage_calls import observed
from dynamodb_outbox.worker.kept_keys import KeptKeys

BATCH: Final = 25
"""At most this many outcomes go in one `settle`: one request of DynamoDB takes no more."""
WRITERS: Final = 4
"""At most this many batches are written at the same time."""

OnSettled = Callable[[Claim, Outcome, OutboxError | None], None]
"""Called once for every claim that was submitted or recorded, with the error if its outcome was not written."""


class SettleQueue:
    """Settles outcomes in batches. Its tasks go on when handlers, or the worker, are cancelled."""

    def __init__(
        self, outbox: Outbox, *, on_settled: OnSettled, report: Report, kept_keys: KeptKeys | None = None
    ) -> None:
        self._outbox = outbox
        self._on_settled = on_settled
        self._report = report
        self._kept_keys = kept_keys
        self._waiting: deque[tuple[Claim, Outcome]] = deque()
        self._reported_lost: set[str] = set()
        self._committed: set[str] = set()
        self._idle: list[anyio.Event] = []
        self._scopes = [anyio.CancelScope(shield=True) for _ in range(WRITERS)]
        self._is_closed = False

    def open(self, group: TaskGroup) -> None:
        """Start the writers in a task group, which must outlive everything that submits outcomes."""
        for scope in self._scopes:
            group.start_soon(self._write, scope)

    def submit(
        self, claim: Claim, outcome: Outcome, *, is_reported_lost: bool = False, is_committed: bool = False
    ) -> None:
        """Settle an outcome soon; returns at once. A lost lease is reported only once: not here if it was before.

        `is_committed` says that a transaction has completed the event already, and only its queue is to go on.
        """
        if is_reported_lost:
            self._reported_lost.add(claim.token)
        if is_committed:
            self._committed.add(claim.token)
        self._waiting.append((claim, outcome))
        if self._idle:
            self._idle.pop().set()

    def record(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        """Note an outcome that needs no write: it is written already, or the write would be refused."""
        self._end(claim, outcome, error)

    async def release(self, claims: Sequence[Claim]) -> None:
        """Release claims in this call, because the writers have ended."""
        await self._settle([(claim, Released()) for claim in claims])

    def abandon_at(self, deadline: float) -> None:
        """Give up outcomes that are not written by then (event loop time). Recovery finds their events."""
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, deadline)

    def close(self) -> None:
        """Let the writers end once nothing is left to be written. Their task group waits for them."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().set()

    async def _write(self, scope: anyio.CancelScope) -> None:
        # A worker that is cancelled cancels its handlers, and still has to write their outcomes.
        with scope:
            while self._waiting or not self._is_closed:
                if self._waiting:
                    await self._settle(self._next_batch())
                else:
                    await self._wait_for_work()
        while self._waiting and scope.cancelled_caught:
            self._give_up(self._next_batch(), sent=False)

    def _next_batch(self) -> list[tuple[Claim, Outcome]]:
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    async def _wait_for_work(self) -> None:
        work = anyio.Event()
        self._idle.append(work)
        try:
            await work.wait()
        except asyncio.CancelledError as cancelled:
            # `asyncio.run` may cancel every task of the loop. The outcomes of the handlers still have to be written.
            if not absorb_foreign_cancellation(cancelled):
                raise
            if work in self._idle:
                self._idle.remove(work)

    async def _settle(self, batch: list[tuple[Claim, Outcome]]) -> None:
        keep = self._kept_keys is not None and self._kept_keys.may_keep
        outbox = self._outbox
        answers: Sequence[Settled]
        try:
            answers = await observed(outbox.observers, "settle", len(batch), outbox.settle, batch, keep_keys=keep)
        except (Exception, asyncio.CancelledError) as unforeseen:
            if not absorb_foreign_cancellation(unforeseen):
                self._give_up(batch, sent=True)
                raise
            answers = [WorkerError(loop="settling", cause=unforeseen)] * len(batch)
        self._on_answers(batch, answers)

    def _give_up(self, batch: list[tuple[Claim, Outcome]], *, sent: bool) -> None:
        """Report that outcomes were not written, or not answered, before the stop ended."""
        over = UnavailableError(operation="a settle", attempts=int(sent), reason="the stop ended", maybe_applied=sent)
        self._on_answers(batch, [over] * len(batch))

    def _on_answers(self, batch: list[tuple[Claim, Outcome]], answers: Sequence[Settled]) -> None:
        for (claim, outcome), answer in zip(batch, answers, strict=True):
            following, error = (answer, None) if isinstance(answer, Claim) else (None, answer)
            is_reported = claim.token in self._reported_lost or _is_reported_by_adapter(claim)
            self._reported_lost.discard(claim.token)
            if claim.token in self._committed:
                self._committed.discard(claim.token)
                if isinstance(error, LeaseLostError):
                    error = None  # the worker that holds the key now goes on with it
            if isinstance(error, LeaseLostError):
                if not is_reported:
                    self._report(error)
            elif error is not None:
                self._report(SettleError(event_id=claim.event.id, outcome=OUTCOME_NAMES[type(outcome)], cause=error))
            self._end(claim, outcome, error, following)

    def _end(self, claim: Claim, outcome: Outcome, error: OutboxError | None, following: Claim | None = None) -> None:
        self._observe(claim, outcome, error)
        self._on_settled(claim, outcome, error)
        if self._kept_keys is not None:
            self._kept_keys.on_settled(claim, following)

    def _observe(self, claim: Claim, outcome: Outcome, error: OutboxError | None) -> None:
        observers, event = self._outbox.observers, claim.event
        if observers:
            observers.notify(_observation(claim, outcome, error))
        has_failed = isinstance(outcome, Failed) and error is None
        if event.ordering_key is not None and has_failed and self._outbox.options.failed_key == "block":
            logger.warning(
                "the ordering key %r is blocked by its event %r: the later ones wait until you call bus.retry_events, "
                "bus.skip_events, bus.discard_events or bus.replace_event",
                event.ordering_key,
                event.id,
            )
            if observers:
                observers.notify(KeyBlocked(ordering_key=event.ordering_key, event_id=event.id, event_type=event.type))


def _is_reported_by_adapter(claim: Claim) -> bool:
    """Return whether the adapter has reported a lost lease, once for all events that share it."""
    return claim.shared_lease is not None and claim.shared_lease.is_lost


def _observation(claim: Claim, outcome: Outcome, error: OutboxError | None) -> Observation:
    event_id, event_type, attempt = claim.event.id, claim.event.type, claim.attempt
    if isinstance(error, LeaseLostError):
        return LeaseLost(event_id=event_id, event_type=event_type)
    if error is not None:
        name = OUTCOME_NAMES[type(outcome)]
        return SettleFailed(event_id=event_id, event_type=event_type, outcome=name, error=error)
    match outcome:
        case Completed():
            return EventCompleted(
                event_id=event_id, event_type=event_type, attempt=attempt, occurred_at=claim.event.occurred_at
            )
        case Retry(delay=delay, error=text):
            return RetryScheduled(event_id=event_id, event_type=event_type, attempt=attempt, delay=delay, error=text)
        case Failed(error=text, reason=reason):
            return EventFailed(event_id=event_id, event_type=event_type, attempt=attempt, error=text, reason=reason)
        case Released() | Held():
            held = isinstance(outcome, Held)
            unhandled = isinstance(outcome, Released) and outcome.unhandled_since is not None
            return EventReleased(
                event_id=event_id, event_type=event_type, attempt=attempt, unhandled=unhandled, held=held
            )
