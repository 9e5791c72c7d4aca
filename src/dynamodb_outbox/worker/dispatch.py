"""Running the handlers of a claim, and saying how it ended. Touches no storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio

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
from dynamodb_outbox.outcome import Completed, Failed, Outcome, Reject, Retry, RetryLater
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
    ) -> None:
        self._registry = registry
        self._options = options
        self._middleware = middleware
        self._report = report

    async def run(self, claim: Claim) -> Outcome:
        """Run the handlers of the event that have not succeeded yet; raises nothing but cancellation."""
        registered = self._registry.of(claim.event.type)
        if not registered:
            error = NoHandlerError(event_id=claim.event.id, event_type=claim.event.type)
            self._report(error)
            return self.outcome_of(claim, {"": error}, claim.handled_by)
        pending = [registration for registration in registered if registration.name not in claim.handled_by]
        failures: dict[str, Exception] = {}
        if len(pending) == 1:
            await self._run_handler(pending[0], claim, failures)
        else:
            async with anyio.create_task_group() as group:
                for registration in pending:
                    group.start_soon(self._run_handler, registration, claim, failures)
        if not failures:
            return Completed()
        succeeded = {registration.name for registration in pending} - failures.keys()
        return self.outcome_of(claim, failures, claim.handled_by | succeeded)

    async def _run_handler(self, registration: Registration, claim: Claim, failures: dict[str, Exception]) -> None:
        try:
            await self._call(registration, claim)
        except (RetryLater, HandlerTimeoutError) as error:
            failures[registration.name] = error
            if isinstance(error, HandlerTimeoutError):
                self._report(error)
        except Exception as error:
            failures[registration.name] = error
            self._report(self._handler_error(registration, claim, error))
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            # The handler awaited something that somebody else cancelled: its failure, not our end.
            failure = self._handler_error(registration, claim, error)
            failures[registration.name] = failure
            self._report(failure)
        else:
            if registration.once:
                self._registry.remove_registration(claim.event.type, registration)

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

    def outcome_of(self, claim: Claim, failures: Mapping[str, Exception], handled_by: frozenset[str]) -> Outcome:
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

    def _handler_error(self, registration: Registration, claim: Claim, error: BaseException) -> HandlerError:
        return HandlerError(
            event_id=claim.event.id,
            event_type=claim.event.type,
            handler=registration.name,
            attempt=claim.attempt,
            cause=error,
        )


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return (task is not None and task.cancelling() > 0) or anyio.current_effective_deadline() == float("-inf")


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, (DeliveryError, Reject, RetryLater)) else f"{type(error).__name__}: {error}"
