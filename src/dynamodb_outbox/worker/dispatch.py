"""Dispatch: claims become attempts, attempts become outcomes. Touches no storage itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import LeaseLostError, NoHandlerError, WorkerError
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.observers import Claimed
from dynamodb_outbox.outcome import Completed, Outcome, Released
from dynamodb_outbox.retry import RetryPolicy
from dynamodb_outbox.worker.handling.attempt import Attempt
from dynamodb_outbox.worker.handling.context import HandlingContext
from dynamodb_outbox.worker.handling.outcomes import (
    decide_outcome,
    default_backoff_of,
    handled_by,
    outcome_of_internal_error,
    outcome_of_newer_version,
    outcome_without_handler,
    policies_of,
)
from dynamodb_outbox.worker.handling.results import CancelReason, Interrupted
from dynamodb_outbox.worker.settle_queue import SettleQueue
from dynamodb_outbox.worker.unhandled import MAX_TYPES, UnhandledTypes


class Dispatcher:
    """Calls the handlers of claims, and submits the outcomes to the settle queue."""

    def __init__(self, context: HandlingContext, *, settles: SettleQueue, unhandled: UnhandledTypes) -> None:
        self._context = context
        self._settles = settles
        self._unhandled = unhandled
        self._default_backoff = default_backoff_of(context.options)
        self._policies: dict[str, tuple[Sequence[Registration], dict[str, RetryPolicy]]] = {}
        self._revision = -1
        self._attempts: dict[Attempt, None] = {}
        self._idle = anyio.Event()

    def start(self, claim: Claim) -> None:
        """Call the handlers of a claim. Its outcome is submitted when each of them has a result."""
        event = claim.event
        if observers := self._context.observers:
            observers.notify(
                Claimed(
                    event_id=event.id,
                    event_type=event.type,
                    attempt=claim.attempt,
                    lease_expires_at=claim.lease_expires_at,
                    due_at=claim.due_at,
                )
            )
        registered = self._context.registry.of(event.type)
        if not registered:
            self._give_back(claim)
            return
        attempt = Attempt(claim, registered, context=self._context, on_done=self._on_done)
        self._attempts[attempt] = None
        attempt.start()

    async def keep_leases(self) -> None:
        """Renew the leases of handlers that take longer, until cancelled."""
        await self._context.keeper.run()

    async def wait_until_idle(self) -> None:
        """Wait until no attempt is left."""
        while self._attempts:
            self._idle = anyio.Event()
            await self._idle.wait()

    def release_all(self) -> None:
        """Cancel the handlers that run, and have their events released."""
        for attempt in list(self._attempts):
            attempt.release()

    def _give_back(self, claim: Claim) -> None:
        event, options = claim.event, self._context.options
        if self._unhandled.meet(event.type):
            error = NoHandlerError(event_id=event.id, event_type=event.type, fails_after=options.unhandled_timeout)
            self._context.report(error)
        self._settles.submit(claim, outcome_without_handler(claim, options))

    def _on_done(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt, None)
        self._idle.set()
        claim, outcome = attempt.claim, self._outcome_of(attempt)
        if attempt.is_completed and claim.event.ordering_key is None:
            self._settles.record(claim, Completed(), None)
        elif attempt.is_completed:
            # The transaction has completed the event, but the event is still at the front of the queue of its key.
            self._settles.submit(claim, Completed(), is_reported_lost=attempt.lease.is_lost, is_committed=True)
        elif attempt.lease.is_lost and isinstance(outcome, Released):
            # DynamoDB would refuse the write, and bill it. The lost lease is reported already. Other outcomes are
            # accepted if the event was only recovered, and no other worker has claimed it yet.
            event = claim.event
            error = LeaseLostError(event_id=event.id, event_type=event.type, outcome="settling")
            self._settles.record(claim, outcome, error)
        else:
            self._settles.submit(claim, outcome, is_reported_lost=attempt.lease.is_lost)

    def _policies_of(self, attempt: Attempt) -> dict[str, RetryPolicy]:
        """Find the retry policies of the handlers. They are built once, until the handlers of the type change."""
        event_type, registered = attempt.claim.event.type, attempt.registered
        # `on_any` handles any number of types.
        if self._revision != self._context.registry.revision or len(self._policies) >= MAX_TYPES:
            self._revision = self._context.registry.revision
            self._policies.clear()
        known = self._policies.get(event_type)
        if known is None or known[0] is not registered:
            policies = policies_of(registered, self._context.options, self._default_backoff)
            known = self._policies[event_type] = (registered, policies)
        return known[1]

    def _outcome_of(self, attempt: Attempt) -> Outcome:
        claim, options, report = attempt.claim, self._context.options, self._context.report
        try:
            policies = self._policies_of(attempt)
            decision = decide_outcome(claim, attempt.results, policies, default_backoff=self._default_backoff)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as unforeseen:  # whatever it is, the event must be settled, and its slot given back
            error = WorkerError(loop="dispatch", cause=unforeseen)
            report(error)
            known = replace(claim, handled_by=handled_by(claim, attempt.results))
            return outcome_of_internal_error(known, error, options)
        for failed_backoff in decision.errors:
            report(failed_backoff)
        outcome, unknown = decision.outcome, attempt.unknown_version
        if unknown is None:
            return outcome
        if self._unhandled.meet_version(claim.event.type, unknown.version):
            report(unknown)
        if not isinstance(outcome, Released) or Interrupted(CancelReason.STOP) in attempt.results.values():
            return outcome
        return outcome_of_newer_version(claim, unknown, options, handled_by=outcome.handled_by)
