"""One call of one handler, in its own task: its time limit, its cancellation, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from dynamodb_outbox.claims import HandlerDone
from dynamodb_outbox.errors import (
    HandlerError,
    HandlerStuckError,
    HandlerTimeoutError,
    InvalidPayloadError,
    LeaseLostError,
    LoopBlockedError,
    WorkerError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.instrumentation import GuardedCall, HandlerCall
from dynamodb_outbox.middleware import run_chain
from dynamodb_outbox.observers import HandlerCancelled, HandlerFailed, HandlerStarted, HandlerSucceeded
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.worker.handling.blocked_loop import as_coroutine, timed_steps
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.delivery import WorkerDelivery
from dynamodb_outbox.worker.handling.eager import has_eager_tasks
from dynamodb_outbox.worker.handling.lease import Lease
from dynamodb_outbox.worker.handling.results import (
    NOT_CALLED,
    SUCCEEDED,
    CancelReason,
    HandlerFailure,
    HandlerResult,
    Interrupted,
    Succeeded,
    blamed_error,
    refuse_awaitable,
    signal_in,
)
from dynamodb_outbox.worker.handling.too_late import is_too_late
from dynamodb_outbox.worker.handling.typed_payloads import TypedPayloads


class HandlerTask:
    """One call of one handler. `on_done` is called once, with the handler and its result.

    The task is not a child of a task group, because a group waits for its children: the worker has to go on without a
    handler that swallows its cancellation. The task is cancelled once, as asyncio's timeouts do, so that a handler may
    await while it cleans up. `completes` tells whether the event is completed once this handler succeeds.
    """

    __slots__ = (
        "_cancel_reason", "_completes", "_context", "_deadline", "_delivery", "_lease", "_limit", "_on_done",
        "_payloads", "_permits", "_started_at", "_task", "_timer", "has_committed", "is_done", "registration",
    )  # fmt: skip

    def __init__(
        self,
        registration: Registration,
        lease: Lease,
        *,
        context: HandlingContext,
        completes: Callable[[Registration], bool],
        payloads: TypedPayloads,
        on_done: Callable[[Registration, HandlerResult], None],
    ) -> None:
        self.registration = registration
        self.is_done = False
        self.has_committed = False
        """Whether a transaction of the delivery is committed. The handler has then succeeded, whatever it does next."""
        self._lease = lease
        self._context = context
        self._completes = completes
        self._payloads = payloads
        self._on_done = on_done
        self._cancel_reason: CancelReason | None = None
        self._delivery: WorkerDelivery | None = None
        self._limit = 0.0
        self._permits: asyncio.Semaphore | None = None
        self._started_at: float | None = None

    def start(self) -> None:
        """Call the handler, once a permit of its concurrency is free."""
        loop = asyncio.get_running_loop()
        if self.registration.concurrency is None:
            self._set_limit()
        else:
            now = loop.time()
            self._deadline = now + self._context.timing.permit_part * (self._lease.usual_end - now)
        self._timer = loop.call_at(self._deadline, self._check_deadline)
        self._task = loop.create_task(self._run(), name=f"{self.registration.name} of {self._lease.claim.event.id}")
        self._task.add_done_callback(self._on_task_done)

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the handler; if it does not end, the worker goes on without it."""
        # A task that has ended already keeps its result: `on_done` gets it in the next iteration of the loop.
        if not self.is_done and self._cancel_reason is None and self._task.cancel():
            self._cancel_reason = reason
            self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._context.timing.cancel_seconds, self._abandon)

    # The call

    def _set_limit(self) -> None:
        """Set the time limit: the handler has its permit, and runs from now on."""
        lease, timeout = self._lease, self.registration.timeout
        self._started_at = now = asyncio.get_running_loop().time()
        self._limit = lease.usual_end - lease.margin if timeout is None else now + timeout
        lease.want(self.registration.name, self._limit)
        if self._limit > lease.safe_end:
            self._context.keeper.hold(lease)
        self._deadline = min(self._limit, lease.safe_end)

    def _extend_limit(self, limit: float) -> None:
        if self.is_done:
            return
        self._limit = max(self._limit, limit)
        self._lease.want(self.registration.name, self._limit)

    async def _run(self) -> None:
        if has_eager_tasks():
            await asyncio.sleep(0)  # else the handler would run within the emit that claims its event
        permits = self._context.permits.of(self.registration)
        if permits is not None:
            await permits.acquire()
            self._permits = permits
            if await self._context.is_held(self._lease.claim.event.type):
                self._interrupt(CancelReason.HELD)
            self._set_limit()
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(self._deadline, self._check_deadline)
        if is_too_late(self._lease, self._context.options.clock):
            self._started_at = None
            self._interrupt(CancelReason.TOO_LATE)
        if (instrumentation := self._context.observers.instrumentation) is None:
            await self._call()
        else:
            registration, claim = self.registration, self._lease.claim
            most = self._context.options.retries_of(registration.max_retries) + 1
            call = HandlerCall(event=claim.event, handler=registration.name, attempt=claim.attempt, max_attempts=most)
            with GuardedCall(instrumentation, call, judge=lambda error: blamed_error(self._result_of(error))):
                await self._call()

    def _interrupt(self, reason: CancelReason) -> NoReturn:
        self._cancel_reason = self._cancel_reason or reason
        raise asyncio.CancelledError

    async def _call(self) -> None:
        context, event = self._context, self._lease.claim.event
        if (observers := context.observers) and HandlerStarted not in observers.ignored:
            observers.notify(HandlerStarted(**self._facts))
        chain, longest = context.middleware, context.options.processing_timeout / 3
        steps = run_chain(chain, event, self._end_chain, keeps_identity=True) if chain else self._call_handler(event)
        try:
            returned = await timed_steps(as_coroutine(steps), longest, self._report_blocked_loop)
            refuse_awaitable(returned, self.registration.name)
        finally:
            # Here and not in `_end`: tasks that the handler has left running may use the delivery before that.
            if self._delivery is not None:
                self._delivery.close(has_ended=True)

    async def _end_chain(self, event: Event) -> None:
        refuse_awaitable(await self._call_handler(event), self.registration.name)

    def _call_handler(self, event: Event) -> Awaitable[Any]:
        if self._context.middleware and is_too_late(self._lease, self._context.options.clock):
            self._interrupt(CancelReason.TOO_LATE)  # a middleware has taken its time
        typed = self._payloads.typed(event, self.registration) if self.registration.classes else event
        if typed is None:
            self._interrupt(CancelReason.NEWER_VERSION)
        if not self.registration.takes_delivery:
            return self.registration.handler(typed)
        self._delivery = backend = WorkerDelivery(
            self.registration,
            self._lease,
            context=self._context,
            completes=self._completes,
            on_extend=self._extend_limit,
            on_commit=self._on_commit,
        )
        return self.registration.handler(typed, backend.delivery())

    def _on_commit(self, done: HandlerDone) -> None:
        if not self.is_done:
            self.has_committed = True
            if done.completes:
                self._lease.is_completed = True
                if not self._lease.is_needed:
                    self._context.keeper.let_go(self._lease)

    # The end

    def _check_deadline(self) -> None:
        loop = asyncio.get_running_loop()
        if self._started_at is not None:
            # The lease may have been renewed, or the limit extended.
            self._deadline = min(self._limit, self._lease.safe_end) if self._lease.is_needed else self._limit
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._check_deadline)
        else:
            self.cancel(self._reason_at(loop.time()))

    def _reason_at(self, now: float) -> CancelReason:
        if self._started_at is None:
            return CancelReason.NO_PERMIT
        # With an own lease, a handler without a `timeout` has all of its time.
        has_less = now < self._limit and self._lease.is_shared and self.registration.timeout is None
        return CancelReason.NOT_RENEWED if has_less else CancelReason.TIMEOUT

    def _abandon(self) -> None:
        self._context.abandoned.keep(self._task)
        self._context.report(HandlerStuckError(**self._subject, seconds=self._context.timing.cancel_seconds))
        self._end(None, has_returned=False)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._timer.cancel()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not self.is_done:
            self._end(error, has_returned=error is None)
        self._delivery = None

    def _end(self, error: BaseException | None, *, has_returned: bool) -> None:
        """Find the result and hand it on, whatever the handler's exceptions and the observers do."""
        self.is_done = True
        self._lease.want_no_more(self.registration.name)
        result: HandlerResult | None = None
        try:
            if self._permits is not None:
                self._permits.release()
            if self._delivery is not None:
                self._delivery.close(has_ended=False)
            if isinstance(error, asyncio.CancelledError) and self._context.is_cancelled():
                self._cancel_reason = self._cancel_reason or CancelReason.STOP
            result = self._result_of(error, has_returned=has_returned)
            self._tell(result, error)
        except Exception as unforeseen:
            result = result or HandlerFailure(unforeseen)
            self._context.report(WorkerError(loop="dispatch", cause=unforeseen))
        finally:
            self._on_done(self.registration, result or HandlerFailure(error or asyncio.CancelledError()))

    def _result_of(self, error: BaseException | None, *, has_returned: bool = False) -> HandlerResult:
        reason = self._cancel_reason
        if self.has_committed or (has_returned and reason not in NOT_CALLED):
            return SUCCEEDED
        if reason is not None and reason is not CancelReason.TIMEOUT:
            return Interrupted(reason)
        if reason is None and error is not None:
            return HandlerFailure(signal_in(error) or error)
        timeout = HandlerTimeoutError(**self._subject, seconds=self._seconds, timeout=self.registration.timeout)
        timeout.__cause__ = error
        return HandlerFailure(timeout)

    # Observations and reports

    def _tell(self, result: HandlerResult, error: BaseException | None) -> None:
        """Report the error of a handler, and notify the observers of the result."""
        observers = self._context.observers
        match result:
            case Succeeded():
                if error is not None and self._cancel_reason is None:
                    self._report_error(error)
                if observers:
                    observers.notify(HandlerSucceeded(**self._facts, seconds=self._seconds))
            case Interrupted():
                if observers and self._started_at is not None:
                    observers.notify(HandlerCancelled(**self._facts, seconds=self._seconds))
            case HandlerFailure(error=failure):
                if not isinstance(failure, RetryLater):
                    self._report_error(failure, rejected=isinstance(failure, Reject))
                if observers:
                    observers.notify(HandlerFailed(**self._facts, seconds=self._seconds, error=failure))

    def _report_error(self, error: BaseException, *, rejected: bool = False) -> None:
        if isinstance(error, LeaseLostError):
            return  # the settle finds out whether the lease is lost, and reports it
        if not isinstance(error, (HandlerTimeoutError, InvalidPayloadError)):
            attempt = self._lease.claim.attempt
            error = HandlerError(**self._subject, attempt=attempt, cause=error, rejected=rejected)
        self._context.report(error)

    def _report_blocked_loop(self, seconds: float) -> None:
        self._context.report(LoopBlockedError(**self._subject, seconds=seconds))

    @property
    def _seconds(self) -> float:
        return 0.0 if self._started_at is None else asyncio.get_running_loop().time() - self._started_at

    @property
    def _subject(self) -> dict[str, Any]:
        return {"event": self._lease.claim.event, "handler": self.registration.name}

    @property
    def _facts(self) -> dict[str, Any]:
        claim = self._lease.claim
        about = {"event_id": claim.event.id, "event_type": claim.event.type, "attempt": claim.attempt}
        return {**about, "handler": self.registration.name}
