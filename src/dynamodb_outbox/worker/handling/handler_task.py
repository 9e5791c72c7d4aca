"""One call of one handler, in a task of its own: its time limit, its cancellation, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import (
    HandlerError,
    HandlerStuckError,
    HandlerTimeoutError,
    LeaseLostError,
    LoopBlockedError,
    WorkerError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.middleware import run_chain
from dynamodb_outbox.observers import HandlerCancelled, HandlerFailed, HandlerStarted, HandlerSucceeded
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.worker.handling.blocked_loop import timed_steps
from dynamodb_outbox.worker.handling.delivery import WorkerDelivery

if TYPE_CHECKING:
    from dynamodb_outbox.worker.handling.attempt import Attempt

CANCEL_SECONDS: Final = 5.0
"""How long a cancelled handler may take to end, before it is left behind."""
PERMIT_PART: Final = 0.5
"""The part of a lease for which an event waits for a place among its handler's concurrent calls."""


class CancelReason(Enum):
    """Why a handler was cancelled."""

    TIMEOUT = "it ran into its time limit"
    STOP = "the worker stops"
    NO_PERMIT = "its concurrency left no place for it"
    LEASE_LOST = "the event is not ours any more"


class HandlerTask:
    """One call of one handler.

    Its task is no child of a task group: a handler that swallows its cancellation has to be left behind, and no
    group leaves a child behind. It is cancelled once, as asyncio's own timeouts do it, so that cleaning up may await.
    """

    __slots__ = (
        "_cause",
        "_deadline",
        "_places",
        "_started",
        "_task",
        "_timer",
        "attempt",
        "commit",
        "committed",
        "has_ended",
        "is_over",
        "limit",
        "registration",
    )

    def __init__(self, attempt: Attempt, registration: Registration) -> None:
        self.attempt = attempt
        self.registration = registration
        self.is_over = False
        self.has_ended = False
        self.committed = False
        self.commit: asyncio.Task[None] | None = None
        """The transaction of the delivery that is under way, or was the last."""
        self.limit = 0.0
        self._cause: CancelReason | None = None
        self._started: float | None = None
        self._places: asyncio.Semaphore | None = None

    def begin(self) -> None:
        """Start the call."""
        loop = asyncio.get_running_loop()
        lease = self.attempt.lease
        now = loop.time()
        if self.registration.concurrency is None:
            self._enter(now)
        else:
            self._deadline = now + PERMIT_PART * (lease.ends - now)
        # The timer first: an eager task is run before it is returned.
        self._timer = loop.call_at(self._deadline, self._check_deadline)
        self._task = loop.create_task(self._main(), name=f"{self.registration.name} of {lease.claim.event.id}")
        self._task.add_done_callback(self._ended)

    def _enter(self, now: float) -> None:
        """Set the time limit: the handler has its place, and runs from now on."""
        lease, timeout = self.attempt.lease, self.registration.timeout
        self._started = now
        self.limit = lease.safe_end if timeout is None else now + timeout
        if self.limit > lease.safe_end:
            self.attempt.host.keeper.hold(self.attempt)
        self._deadline = min(self.limit, lease.safe_end)

    async def _main(self) -> None:
        places = self.attempt.host.permits_of(self.registration)
        if places is not None:
            await places.acquire()
            self._places = places
            loop = asyncio.get_running_loop()
            self._enter(loop.time())
            self._timer.cancel()
            self._timer = loop.call_at(self._deadline, self._check_deadline)
        await self._call()

    async def _call(self) -> None:
        host, claim = self.attempt.host, self.attempt.claim
        if observers := host.observers:
            observers.notify(HandlerStarted(**self._facts))
        if host.middleware:
            steps: Awaitable[None] = run_chain(host.middleware, claim.event, self._call_handler, keeps_identity=True)
        else:
            steps = self._call_handler(claim.event)
        if not isinstance(steps, Coroutine):
            steps = _awaited(steps)
        try:
            await timed_steps(steps, host.options.processing_timeout / 3, self._blocked)
        finally:
            # Told at once: what the handler has left running comes before it is accounted for.
            self.has_ended = True

    def _call_handler(self, event: Event) -> Awaitable[None]:
        registration, host = self.registration, self.attempt.host
        if not registration.takes_delivery:
            return registration.handler(event)
        backend = WorkerDelivery(self)
        delivery = Delivery(
            self.attempt.claim.event,
            attempt=self.attempt.claim.attempt,
            max_attempts=host.options.retries_of(registration.max_retries) + 1,
            handler=registration.name,
            backend=backend,
            emit=backend.emit,
        )
        return registration.handler(event, delivery)

    # Its end

    def prolong(self, limit: float) -> None:
        """Move the time limit (event loop time) forward."""
        self.limit = max(self.limit, limit)

    def has_committed(self, *, completes: bool) -> None:
        """Note that a transaction of the delivery is committed: the handler is done, whatever it does from now on."""
        self.committed = True
        self.attempt.succeeded.add(self.registration.name)
        if completes:
            self.attempt.completed = True
            self.attempt.host.keeper.let_go(self.attempt)

    def cancel(self, cause: CancelReason) -> None:
        """Cancel the handler; one that does not end is left behind."""
        # One that is done already is only to be accounted for: what it said counts.
        if not self.is_over and self._cause is None and self._task.cancel():
            self._cause = cause
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(CANCEL_SECONDS, self._abandon)

    def _check_deadline(self) -> None:
        loop = asyncio.get_running_loop()
        if self._started is not None:
            # The lease may have been renewed, or the limit extended; what is completed needs no lease.
            self._deadline = self.limit if self.attempt.completed else min(self.limit, self.attempt.lease.safe_end)
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._check_deadline)
        else:
            self.cancel(CancelReason.NO_PERMIT if self._started is None else CancelReason.TIMEOUT)

    def _abandon(self) -> None:
        self.attempt.host.keep_abandoned(self._task)
        self.attempt.host.report(HandlerStuckError(**self._subject, seconds=CANCEL_SECONDS))
        self._conclude(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._timer.cancel()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.is_over:
            self._conclude(error, succeeded=error is None)

    def _conclude(self, error: BaseException | None, *, succeeded: bool = False) -> None:
        """Account for the handler, whatever its exceptions and the observers do."""
        self.is_over = True
        try:
            if self._places is not None:
                self._places.release()
            self._record_result(error, succeeded=succeeded or self.committed)
        except Exception as unforeseen:  # counts as a failure of the handler
            self.attempt.failures.setdefault(self.registration.name, unforeseen)
            self.attempt.host.report(WorkerError(loop="dispatch", cause=unforeseen))
        finally:
            self.attempt.finished(self)

    def _record_result(self, error: BaseException | None, *, succeeded: bool) -> None:
        """Say whether it succeeded, failed, or was interrupted."""
        attempt, host = self.attempt, self.attempt.host
        cause = self._cause
        if cause is None and isinstance(error, asyncio.CancelledError) and host.is_ending:
            cause = CancelReason.STOP
        if succeeded:
            attempt.succeeded.add(self.registration.name)
            host.succeeded(attempt.claim.event.type, self.registration)
            if error is not None and cause is None:
                self._report_failure(error)
            if observers := host.observers:
                observers.notify(HandlerSucceeded(**self._facts, seconds=self._seconds))
        elif cause is not None and cause is not CancelReason.TIMEOUT:
            attempt.interrupted[self.registration.name] = cause
            if (observers := host.observers) and self._started is not None:
                observers.notify(HandlerCancelled(**self._facts, seconds=self._seconds))
        else:
            self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        failure: BaseException
        if self._cause is CancelReason.TIMEOUT or error is None:
            timeout = self.registration.timeout
            failure = HandlerTimeoutError(**self._subject, seconds=self._seconds, timeout=timeout)
            failure.__cause__ = error
        else:
            failure = _signal_in(error) or error
        self.attempt.failures[self.registration.name] = failure
        if not isinstance(failure, RetryLater):
            self._report_failure(failure)
        if observers := self.attempt.host.observers:
            observers.notify(HandlerFailed(**self._facts, seconds=self._seconds, error=failure))

    def _report_failure(self, error: BaseException) -> None:
        if isinstance(error, LeaseLostError):
            return  # the settle finds out, and reports, if it is so
        if not isinstance(error, HandlerTimeoutError):
            error = HandlerError(**self._subject, attempt=self.attempt.claim.attempt, cause=error)
        self.attempt.host.report(error)

    def _blocked(self, seconds: float) -> None:
        self.attempt.host.report(LoopBlockedError(**self._subject, seconds=seconds))

    @property
    def _seconds(self) -> float:
        return 0.0 if self._started is None else asyncio.get_running_loop().time() - self._started

    @property
    def _subject(self) -> dict[str, Any]:
        return {"event": self.attempt.claim.event, "handler": self.registration.name}

    @property
    def _facts(self) -> dict[str, Any]:
        claim = self.attempt.claim
        return {
            "event_id": claim.event.id,
            "event_type": claim.event.type,
            "handler": self.registration.name,
            "attempt": claim.attempt,
        }


async def _awaited(steps: Awaitable[None]) -> None:
    await steps


def _signal_in(error: BaseException) -> Reject | RetryLater | None:
    """Find what a handler asked for, also where a task group of its own wrapped it."""
    if isinstance(error, (Reject, RetryLater)):
        return error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if signal := _signal_in(member):
                return signal
    return None
