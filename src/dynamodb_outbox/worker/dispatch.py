"""Running the handlers of a claim, and saying how it ended. Touches no storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from dynamodb_outbox.cancellation import absorb, is_from_a_scope
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import (
    DeliveryError,
    HandlerError,
    HandlerTimeoutError,
    NoHandlerError,
    OutboxError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import HandlerRegistry, Registration
from dynamodb_outbox.middleware import Middleware, run_chain
from dynamodb_outbox.outbox import Claim, OutboxOptions
from dynamodb_outbox.outcome import Completed, Failed, Outcome, Reject, Released, Retry, RetryLater
from dynamodb_outbox.worker.backoff import retry_delay

Report = Callable[[OutboxError], None]

LEASE_MARGIN: Final = 0.1
"""The part of a lease that is kept for settling: handlers are cancelled before it."""
LONGEST_MARGIN: Final = 1.0


class Dispatcher:
    """Runs handlers concurrently, each for what is left of the lease."""

    def __init__(
        self,
        registry: HandlerRegistry,
        *,
        options: OutboxOptions,
        middleware: Sequence[Middleware],
        report: Report,
        is_ending: Callable[[], bool],
    ) -> None:
        self._registry = registry
        self._options = options
        self._middleware = middleware
        self._report = report
        self._is_ending = is_ending

    async def run(self, claim: Claim) -> Outcome:
        """Run the handlers of the event that have not succeeded yet.

        Cancelled by the worker, it returns `Released` with what was done. An exception that has to end the
        process is raised once the attempt is judged.
        """
        registered = self._registry.of(claim.event.type)
        if not registered:
            error = NoHandlerError(event_id=claim.event.id, event_type=claim.event.type)
            self._report(error)
            return self.outcome_of(claim, {"": error}, claim.handled_by)
        pending = [registration for registration in registered if registration.name not in claim.handled_by]
        attempt = _Attempt(claim)
        try:
            if len(pending) == 1:
                await self._run_handler(pending[0], attempt)
            else:
                async with anyio.create_task_group() as group:
                    for registration in pending:
                        group.start_soon(self._run_handler, registration, attempt)
        except asyncio.CancelledError:
            # The worker stops. What is not done is neither a success nor a failure.
            return Released(handled_by=claim.handled_by | attempt.succeeded)
        handled_by = claim.handled_by | attempt.succeeded
        if attempt.failures:
            return self.outcome_of(claim, attempt.failures, handled_by)
        # Only what is known to have succeeded completes an event.
        undone = [registration.name for registration in pending if registration.name not in attempt.succeeded]
        if attempt.interrupted:
            return Released(handled_by=handled_by)
        if undone:
            return self.outcome_of(claim, dict.fromkeys(undone, RuntimeError("the handler did not end")), handled_by)
        return Completed()

    async def _run_handler(self, registration: Registration, attempt: _Attempt) -> None:
        try:
            await self._call(registration, attempt.claim)
        except asyncio.CancelledError as error:
            if self._has_to_end():
                raise
            # The handler cancelled its own task, or awaited something cancelled: its failure, not our end.
            absorb()
            self._failed(registration, attempt, error)
        except BaseException as error:
            if self._has_to_end():
                # Cancelled by us, it ended in an exception of its own making.
                attempt.interrupted = True
                return
            self._failed(registration, attempt, error)
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
        else:
            attempt.succeeded.add(registration.name)
            if registration.once:
                self._registry.remove_registration(attempt.claim.event.type, registration)

    def _failed(self, registration: Registration, attempt: _Attempt, error: BaseException) -> None:
        signal = _signal_in(error)
        attempt.failures[registration.name] = signal or error
        if isinstance(signal, RetryLater):
            return
        claim = attempt.claim
        if isinstance(error, HandlerTimeoutError):
            self._report(error)
        else:
            self._report(
                HandlerError(
                    event_id=claim.event.id,
                    event_type=claim.event.type,
                    handler=registration.name,
                    attempt=claim.attempt,
                    cause=error,
                )
            )

    def _has_to_end(self) -> bool:
        return is_from_a_scope() or self._is_ending()

    async def _call(self, registration: Registration, claim: Claim) -> None:
        delivery = Delivery(
            attempt=claim.attempt,
            max_attempts=self._options.max_retries + 1,
            handler=registration.name,
            lease_expires_at=claim.lease_expires_at,
        )

        async def call_handler(event: Event) -> None:
            await (
                registration.handler(event, delivery) if registration.takes_delivery else registration.handler(event)
            )

        seconds = self._seconds_left(claim)
        with anyio.move_on_after(seconds) as scope:
            await run_chain(self._middleware, claim.event, call_handler)
        if scope.cancelled_caught:
            raise HandlerTimeoutError(
                event_id=claim.event.id, event_type=claim.event.type, handler=registration.name, seconds=seconds
            )

    def _seconds_left(self, claim: Claim) -> float:
        # A clock that was set back must not stretch the lease.
        lease = min(claim.lease_expires_at - self._options.clock(), self._options.processing_timeout)
        return max(lease - min(LEASE_MARGIN * self._options.processing_timeout, LONGEST_MARGIN), 0.0)

    def outcome_of(self, claim: Claim, failures: Mapping[str, BaseException], handled_by: frozenset[str]) -> Outcome:
        """Judge an attempt of which some handlers failed.

        One rejection sets the event aside. Else the longest delay that a handler asks for decides.
        """
        text = "; ".join(
            f"{name}: {_describe(error)}" if name else _describe(error) for name, error in failures.items()
        )
        rejected = any(isinstance(error, Reject) for error in failures.values())
        if rejected or claim.attempt > self._options.max_retries:
            return Failed(error=text, handled_by=handled_by)
        usual = retry_delay(claim.attempt, base=self._options.base_backoff)
        delay = max(error.delay if isinstance(error, RetryLater) else usual for error in failures.values())
        return Retry(delay=delay, error=text, handled_by=handled_by)


@dataclass(slots=True)
class _Attempt:
    """What became of the handlers of a claim, by name."""

    claim: Claim
    succeeded: set[str] = field(default_factory=set[str])
    failures: dict[str, BaseException] = field(default_factory=dict[str, BaseException])
    interrupted: bool = False


def _signal_in(error: BaseException) -> Reject | RetryLater | None:
    """Find what a handler asked for, also where a task group of its own wrapped it."""
    if isinstance(error, (Reject, RetryLater)):
        return error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if signal := _signal_in(member):
                return signal
    return None


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, (DeliveryError, Reject, RetryLater)) else f"{type(error).__name__}: {error}"
