"""Judging an attempt: from what became of its handlers to its outcome. Touches no storage."""

from __future__ import annotations

from dynamodb_outbox.errors import DeliveryError, OutboxError, WorkerError
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.outbox import Claim, OutboxOptions
from dynamodb_outbox.outcome import LONGEST_DELAY, Completed, Failed, Outcome, Reject, Released, Retry, RetryLater
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.retry import ExponentialBackoff, RetryPolicy
from dynamodb_outbox.worker.attempt import Attempt
from dynamodb_outbox.worker.call import Cause


def outcome_of(attempt: Attempt, options: OutboxOptions, report: Report) -> Outcome:
    """Judge an attempt of which every handler is accounted for.

    One handler that gives up for good, by `Reject`, by a fatal exception or by its backoff, sets the event aside.
    Else the event is tried again while a handler that failed has retries left, after the longest of their delays.
    """
    handled_by = attempt.handled_by
    if Cause.STOP in attempt.interrupted or (attempt.interrupted and not attempt.failures):
        return Released(handled_by=handled_by)
    delays: list[float] = []
    registered = {registration.name: registration for registration in attempt.registered}
    for name, error in attempt.failures.items():
        registration = registered[name]
        if attempt.claim.attempt <= options.retries_of(registration.max_retries):
            delay = _delay(registration, attempt.claim.attempt, error, options, report)
            if delay is None:
                return Failed(error=_text(attempt), handled_by=handled_by)
            delays.append(delay)
        elif isinstance(error, Reject):
            return Failed(error=_text(attempt), handled_by=handled_by)
    if delays:
        return Retry(delay=max(delays), error=_text(attempt), handled_by=handled_by)
    if attempt.failures or attempt.given_up:
        return Failed(error=_text(attempt), handled_by=handled_by)
    # Only what is known to have succeeded completes an event.
    undone = [name for name in registered if name not in handled_by]
    return Released(handled_by=handled_by) if undone else Completed()


def outcome_without_handler(claim: Claim, error: OutboxError, options: OutboxOptions) -> Outcome:
    """Judge an attempt that no handler was called in: it failed as if one had raised."""
    if claim.attempt > options.max_retries:
        return Failed(error=str(error), handled_by=claim.handled_by)
    return Retry(delay=_usual(options)(claim.attempt, error), error=str(error), handled_by=claim.handled_by)


def _delay(
    registration: Registration, attempt: int, error: BaseException, options: OutboxOptions, report: Report
) -> float | None:
    policy = RetryPolicy(
        max_retries=options.retries_of(registration.max_retries),
        backoff=registration.backoff or _usual(options),
        fatal=registration.fatal,
    )
    try:
        return policy.delay(attempt, error)
    except Exception as failure:
        report(WorkerError(loop=f"the backoff of handler {registration.name!r}", cause=failure))
        return _usual(options)(attempt, error)


def _usual(options: OutboxOptions) -> ExponentialBackoff:
    return ExponentialBackoff(base=options.base_backoff, cap=LONGEST_DELAY)


def _text(attempt: Attempt) -> str:
    lines = [f"{name}: {_describe(error)}" for name, error in attempt.failures.items()]
    lines += [f"{registration.name}: no retry is left for it" for registration in attempt.given_up]
    return "; ".join(lines)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, (DeliveryError, Reject, RetryLater)) else f"{type(error).__name__}: {error}"
