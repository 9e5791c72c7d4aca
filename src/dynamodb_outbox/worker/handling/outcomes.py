"""From the results of an event's handlers to its outcome. Pure: touches no storage, and reports nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypedDict

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.errors import DeliveryError, NoHandlerError, OutboxError, UnknownVersionError, WorkerError
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.outcome import (
    LONGEST_DELAY,
    Completed,
    Failed,
    FailureReason,
    Outcome,
    Reject,
    Released,
    Retry,
    RetryLater,
)
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.retry import Backoff, ExponentialBackoff, RetryPolicy
from dynamodb_outbox.wording import describe
from dynamodb_outbox.worker.handling.last_error import join_errors, split_errors
from dynamodb_outbox.worker.handling.results import CancelReason, HandlerFailure, HandlerResult, Interrupted, Succeeded

LONGEST_GIVE_BACK: Final = 60.0
"""An event that has no handler here is due again after this many seconds at the latest."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of an attempt, and the errors of backoffs that raised."""

    outcome: Outcome
    errors: tuple[WorkerError, ...] = ()


COMPLETED: Final = Decision(Completed())


def decide_outcome(
    claim: Claim,
    results: Mapping[str, HandlerResult],
    policies: Mapping[str, RetryPolicy],
    *,
    default_backoff: ExponentialBackoff,
) -> Decision:
    """Decide the outcome of an attempt in which every handler that was called has a result.

    `policies` has the retry policy of every handler of the event, whether the handler was called or not.
    `default_backoff` replaces a backoff that raises.

    A handler is interrupted if the worker stops, the lease is lost, it gets no permit, its type is held when it gets
    one, or the lease of its ordering key is over before it starts. The first rule that applies decides:

    1. Every handler has succeeded: completed.
    2. The stop interrupted a handler, or a handler was interrupted and none failed: released, no attempt is counted.
    3. A handler raised `Reject` or a `no_retry_on` exception, or its backoff gave up: FAILED.
    4. A handler was interrupted in its last attempt, and all that failed may be retried: released, after the longest
       delay.
    5. A handler that failed or was interrupted has retries left: retry, after the longest delay.
    6. A handler has failed for good: FAILED.
    7. A handler was not called at all: released.
    """
    if handled_by(claim, results).issuperset(policies):
        return COMPLETED  # rule 1
    return _Deciding(claim, results, policies, default_backoff).decide()


class _Blame(TypedDict):
    """The error of an outcome apart from its text, as `Retry` and `Failed` have it."""

    error_type: str | None
    error_handler: str | None


class _Deciding:
    def __init__(
        self,
        claim: Claim,
        results: Mapping[str, HandlerResult],
        policies: Mapping[str, RetryPolicy],
        default_backoff: Backoff,
    ) -> None:
        self._claim = claim
        self._policies = policies
        self._default_backoff = default_backoff
        self._handled_by = handled_by(claim, results)
        self._failures = {name: each.error for name, each in results.items() if isinstance(each, HandlerFailure)}
        self._interrupted = {name: each.reason for name, each in results.items() if isinstance(each, Interrupted)}
        self._exhausted = [name for name in policies if name not in results and self._has_failed_for_good(name)]
        self._errors: list[WorkerError] = []

    def decide(self) -> Decision:
        return Decision(self._outcome(), tuple(self._errors))

    def _outcome(self) -> Outcome:
        if CancelReason.STOP in self._interrupted.values() or (self._interrupted and not self._failures):
            return Released(handled_by=self._handled_by)  # rule 2
        delays: list[float] = []
        for name, error in self._failures.items():
            if self._has_retries(name) or self._policies[name].is_final(error):
                delay = self._delay(name, error)
                if delay is None:
                    return self._failed("rejected", by=name)  # rule 3
                delays.append(delay)
        if self._interrupted and (outcome := self._outcome_of_interrupted(delays)):
            return outcome
        if delays:
            return self._retry(max(delays))  # rule 5
        if self._failures or self._exhausted:
            return self._failed("retries_exhausted")  # rule 6
        # Rule 7: a handler was not called at all. Only handlers that are known to have succeeded complete an event.
        return Released(handled_by=self._handled_by)

    def _outcome_of_interrupted(self, delays: list[float]) -> Outcome | None:
        """Decide for interrupted handlers. None if none has a retry left, and a handler that failed has none either."""
        have_retries = [self._has_retries(name) for name in self._interrupted]
        if not all(have_retries) and len(delays) == len(self._failures):
            # Rule 4: if this attempt counted, it would be the last of a handler that had no turn in it.
            return Released(handled_by=self._handled_by, delay=max(delays))
        return self._retry(max(delays, default=0.0)) if any(have_retries) else None  # rule 5

    def _has_failed_for_good(self, name: str) -> bool:
        """Return whether a handler used its last retry in an earlier attempt."""
        # `Attempt.start` calls a handler by the opposite of this condition: change both together.
        return name not in self._claim.handled_by and self._claim.attempt > self._policies[name].max_retries + 1

    def _has_retries(self, name: str) -> bool:
        return self._claim.attempt <= self._policies[name].max_retries

    def _delay(self, name: str, error: BaseException) -> float | None:
        attempt = self._claim.attempt
        try:
            return self._policies[name].delay(attempt, error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:  # a backoff is the user's code, and the event must be settled
            self._errors.append(WorkerError(loop=f"the backoff of handler {name!r}", cause=failure))
            return self._default_backoff(attempt, error)

    def _retry(self, delay: float) -> Retry:
        return Retry(delay=delay, error=self._text(), handled_by=self._handled_by, **self._blame())

    def _failed(self, reason: FailureReason, *, by: str | None = None) -> Failed:
        return Failed(error=self._text(), handled_by=self._handled_by, reason=reason, **self._blame(by))

    def _blame(self, by: str | None = None) -> _Blame:
        """Name the error that decided: of the handler `by`, else of the first one that failed, now or before."""
        name = by or next(iter(self._failures), None)
        if name is not None:
            return _Blame(error_type=type(self._failures[name]).__name__, error_handler=name)
        if self._exhausted:
            return _Blame(error_type=self._claim.error_type, error_handler=self._claim.error_handler)
        return _Blame(error_type=None, error_handler=None)

    def _text(self) -> str:
        errors = {name: _describe(error) for name, error in self._failures.items()}
        if self._exhausted:
            before = split_errors(self._claim.last_error, names=self._policies)
            errors |= {name: before.get(name, "no retry is left") for name in self._exhausted}
        return join_errors(errors, names=self._policies)


def outcome_without_handler(claim: Claim, options: OutboxOptions) -> Outcome:
    """Decide to give back an event that has no handler here, or to make it FAILED after the `unhandled_timeout`.

    The event waits as long as it has been unhandled so far, which doubles its wait each time: 1, 1, 2, 4, ... 60 s.
    """
    now = options.clock()
    since = now if claim.unhandled_since is None else claim.unhandled_since
    if options.unhandled_timeout is not None and now - since >= options.unhandled_timeout:
        error = NoHandlerError(event_id=claim.event.id, event_type=claim.event.type, seconds=now - since)
        return Failed(error=str(error), reason="unhandled", error_type=type(error).__name__)
    return Released(delay=max(options.poll_interval, min(now - since, LONGEST_GIVE_BACK)), unhandled_since=since)


def outcome_of_newer_version(
    claim: Claim, unknown: UnknownVersionError, options: OutboxOptions, *, handled_by: frozenset[str]
) -> Outcome:
    """Decide to give back an event whose payload no class here can read yet, or to make it FAILED.

    It waits as an event that has no handler here does; see `outcome_without_handler`.
    """
    given_back = outcome_without_handler(claim, options)
    if isinstance(given_back, Released):
        return replace(given_back, handled_by=handled_by)
    since = options.clock() if claim.unhandled_since is None else claim.unhandled_since
    error = UnknownVersionError(
        event_id=claim.event.id,
        event_type=claim.event.type,
        version=unknown.version,
        known=unknown.known,
        seconds=options.clock() - since,
    )
    return Failed(error=str(error), reason="unhandled", error_type=type(error).__name__, handled_by=handled_by)


def outcome_of_internal_error(claim: Claim, error: OutboxError, options: OutboxOptions) -> Outcome:
    """Decide the outcome where `decide_outcome` raised: as if a handler had failed."""
    if claim.attempt > options.max_retries:
        return Failed(error=str(error), handled_by=claim.handled_by, error_type=type(error).__name__)
    delay = default_backoff_of(options)(claim.attempt, error)
    return Retry(delay=delay, error=str(error), handled_by=claim.handled_by, error_type=type(error).__name__)


def handled_by(claim: Claim, results: Mapping[str, HandlerResult]) -> frozenset[str]:
    """Return the names of the handlers that have succeeded, in this attempt and before."""
    return claim.handled_by.union(name for name, result in results.items() if isinstance(result, Succeeded))


def policies_of(
    registered: Iterable[Registration], options: OutboxOptions, default_backoff: Backoff
) -> dict[str, RetryPolicy]:
    """Make the retry policies of handlers, by name."""
    return {
        registration.name: RetryPolicy(
            max_retries=options.retries_of(registration.max_retries),
            backoff=registration.backoff or default_backoff,
            no_retry_on=registration.no_retry_on,
        )
        for registration in registered
    }


def default_backoff_of(options: OutboxOptions) -> ExponentialBackoff:
    """Make the backoff of handlers that have declared none."""
    return ExponentialBackoff(base=options.base_backoff, cap=LONGEST_DELAY)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, (DeliveryError, Reject, RetryLater)) else describe(error)
