"""Judging an attempt: from what became of its handlers to its outcome. Touches no storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.errors import DeliveryError, NoHandlerError, OutboxError, WorkerError, describe
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.outcome import LONGEST_DELAY, Completed, Failed, Outcome, Reject, Released, Retry, RetryLater
from dynamodb_outbox.port import Claim, OutboxOptions
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.retry import ExponentialBackoff, RetryPolicy
from dynamodb_outbox.worker.handling.attempt import Attempt
from dynamodb_outbox.worker.handling.handler_task import CancelReason
from dynamodb_outbox.worker.handling.last_error import join_errors, split_errors

LONGEST_GIVE_BACK: Final = 60.0
"""Seconds after which an event is due again at the latest that has no handler here."""


def decide_outcome(attempt: Attempt, options: OutboxOptions, report: Report) -> Outcome:
    """Judge an attempt of which every handler is accounted for.

    One handler that gives up for good, by `Reject`, by a `no_retry_on` exception or by its backoff, makes it FAILED.
    Else the event is tried again while a handler that failed has retries left, after the longest of their delays.
    One that was interrupted, or had no place, has its turn before the event is set aside for another.
    """
    handled_by = attempt.handled_by
    if CancelReason.STOP in attempt.interrupted.values() or (attempt.interrupted and not attempt.failures):
        return Released(handled_by=handled_by)
    delays: list[float] = []
    registered = {registration.name: registration for registration in attempt.registered}
    for name, error in attempt.failures.items():
        policy = _policy(registered[name], options)
        is_final = policy.is_final(error)
        if is_final or attempt.claim.attempt <= policy.max_retries:
            delay = None if is_final else _delay(policy, attempt, name, usual=_usual(options), report=report)
            if delay is None:
                return Failed(error=_text(attempt), handled_by=handled_by)
            delays.append(delay)
    if attempt.interrupted and (outcome := _outcome_of_interrupted(attempt, options, delays)):
        return outcome
    if delays:
        return Retry(delay=max(delays), error=_text(attempt), handled_by=handled_by)
    if attempt.failures or attempt.given_up:
        return Failed(error=_text(attempt), handled_by=handled_by)
    # Only what is known to have succeeded completes an event.
    undone = [name for name in registered if name not in handled_by]
    return Released(handled_by=handled_by) if undone else Completed()


def _outcome_of_interrupted(attempt: Attempt, options: OutboxOptions, delays: Sequence[float]) -> Outcome | None:
    """Give handlers another turn that did not come to an end of their own; None if others must not have one more."""
    interrupted = [registration for registration in attempt.registered if registration.name in attempt.interrupted]
    have_retries = [attempt.claim.attempt <= _policy(each, options).max_retries for each in interrupted]
    if not all(have_retries) and len(delays) == len(attempt.failures):
        # Counted, the attempt would have been the last of one that had no turn in it.
        return Released(handled_by=attempt.handled_by, delay=max(delays))
    if any(have_retries):
        return Retry(delay=max(delays, default=0.0), error=_text(attempt), handled_by=attempt.handled_by)
    return None


def outcome_without_handler(claim: Claim, options: OutboxOptions) -> Outcome:
    """Give back an event that has no handler here, until it has been unhandled for the `unhandled_timeout`.

    The delay is as long as that took so far: with the waits of the give-backs before, it doubles each time.
    """
    now = options.clock()
    since = now if claim.unhandled_since is None else claim.unhandled_since
    if options.unhandled_timeout is not None and now - since >= options.unhandled_timeout:
        error = NoHandlerError(event_id=claim.event.id, event_type=claim.event.type, seconds=now - since)
        return Failed(error=str(error))
    return Released(delay=max(options.poll_interval, min(now - since, LONGEST_GIVE_BACK)), unhandled_since=since)


def outcome_of_internal_error(claim: Claim, error: OutboxError, options: OutboxOptions) -> Outcome:
    """Judge an attempt that could not be judged: it failed as if a handler had raised."""
    if claim.attempt > options.max_retries:
        return Failed(error=str(error), handled_by=claim.handled_by)
    return Retry(delay=_usual(options)(claim.attempt, error), error=str(error), handled_by=claim.handled_by)


def _policy(registration: Registration, options: OutboxOptions) -> RetryPolicy:
    return RetryPolicy(
        max_retries=options.retries_of(registration.max_retries),
        backoff=registration.backoff or _usual(options),
        no_retry_on=registration.no_retry_on,
    )


def _delay(
    policy: RetryPolicy, attempt: Attempt, name: str, *, usual: ExponentialBackoff, report: Report
) -> float | None:
    number, error = attempt.claim.attempt, attempt.failures[name]
    try:
        return policy.delay(number, error)
    except Exception as failure:  # a policy is the user's code
        report(WorkerError(loop=f"the backoff of handler {name!r}", cause=failure))
        return usual(number, error)


def _usual(options: OutboxOptions) -> ExponentialBackoff:
    return ExponentialBackoff(base=options.base_backoff, cap=LONGEST_DELAY)


def _text(attempt: Attempt) -> str:
    names = [registration.name for registration in attempt.registered]
    errors = {name: _describe(error) for name, error in attempt.failures.items()}
    if attempt.given_up:
        before = split_errors(attempt.claim.last_error, names=names)
        for registration in attempt.given_up:
            errors[registration.name] = before.get(registration.name, "no retry is left")
    return join_errors(errors, names=names)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, (DeliveryError, Reject, RetryLater)) else describe(error)
