"""From the results of handlers to the outcome of an event: a pure function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodb_outbox import Event, FixedBackoff, Reject, RetryLater
from dynamodb_outbox.adapter import Claim, Completed, Failed, Outcome, Released, Retry
from dynamodb_outbox.retry import RetryPolicy
from dynamodb_outbox.worker.handling.outcomes import decide_outcome
from dynamodb_outbox.worker.handling.results import CancelReason, HandlerFailure, HandlerResult, Interrupted, Succeeded

CLAIM = Claim(event=Event("order.placed"), token="token", attempt=3, lease_expires_at=0.0)
DONE = Succeeded()
BROKEN = HandlerFailure(ValueError("broken"))
STOPPED, CROWDED, LOST = map(Interrupted, (CancelReason.STOP, CancelReason.NO_PERMIT, CancelReason.LEASE_LOST))
POLICIES = {
    "mail": RetryPolicy(max_retries=5, backoff=FixedBackoff(7), no_retry_on=(KeyError,)),
    "bill": RetryPolicy(max_retries=5, backoff=FixedBackoff(9)),
}
LAST = {name: replace(policy, max_retries=2) for name, policy in POLICIES.items()}
PAST = {name: replace(policy, max_retries=1) for name, policy in POLICIES.items()}
MAIL = frozenset({"mail"})


def of(handler: str, error: str) -> Any:
    """The handler of an error, and the class of it."""
    return {"error_handler": handler, "error_type": error}


BILL, BEFORE = of("bill", "ValueError"), of("bill", "OSError")


@pytest.mark.parametrize(
    ("mail", "bill", "outcome"),
    [
        (DONE, DONE, Completed()),
        (DONE, BROKEN, Retry(delay=9, error="bill: ValueError: broken", handled_by=MAIL, **BILL)),
        (
            BROKEN,
            BROKEN,
            Retry(delay=9, error="mail: ValueError: broken; bill: ValueError: broken", **of("mail", "ValueError")),
        ),
        (
            DONE,
            HandlerFailure(RetryLater(60)),
            Retry(delay=60, error="bill: retry in 60 s", handled_by=MAIL, **of("bill", "RetryLater")),
        ),
        (
            DONE,
            HandlerFailure(Reject("no")),
            Failed(error="bill: rejected: no", handled_by=MAIL, reason="rejected", **of("bill", "Reject")),
        ),
        (
            HandlerFailure(KeyError("k")),
            BROKEN,
            Failed(error="mail: KeyError: 'k'; bill: ValueError: broken", reason="rejected", **of("mail", "KeyError")),
        ),
        (
            BROKEN,
            HandlerFailure(Reject("no")),
            Failed(error="mail: ValueError: broken; bill: rejected: no", reason="rejected", **of("bill", "Reject")),
        ),
        (DONE, STOPPED, Released(handled_by=MAIL)),
        (BROKEN, STOPPED, Released()),
        (DONE, LOST, Released(handled_by=MAIL)),
        (BROKEN, CROWDED, Retry(delay=7, error="mail: ValueError: broken", **of("mail", "ValueError"))),
    ],
)
def test_outcome_of_two_handlers_with_retries_left(mail: HandlerResult, bill: HandlerResult, outcome: Outcome) -> None:
    decision = decide_outcome(CLAIM, {"mail": mail, "bill": bill}, POLICIES, default_backoff=FixedBackoff(1))
    assert (decision.outcome, decision.errors) == (outcome, ())


@pytest.mark.parametrize(
    ("policies", "results", "outcome"),
    [
        (LAST, {"mail": DONE, "bill": DONE}, Completed()),
        (LAST, {"mail": DONE, "bill": BROKEN}, Failed(error="bill: ValueError: broken", handled_by=MAIL, **BILL)),
        (LAST, {"mail": DONE, "bill": CROWDED}, Released(handled_by=MAIL)),
        (POLICIES | {"bill": PAST["bill"]}, {"mail": DONE}, Failed(error="bill: IOError", handled_by=MAIL, **BEFORE)),
        (PAST, {}, Failed(error="mail: no retry is left; bill: IOError", **BEFORE)),
        # A handler that was not called, for a reason that nobody knows: the event is not completed.
        (POLICIES, {"mail": DONE}, Released(handled_by=MAIL)),
    ],
)
def test_outcome_without_a_retry_left(
    policies: dict[str, RetryPolicy], results: dict[str, HandlerResult], outcome: Outcome
) -> None:
    claim = replace(CLAIM, last_error="bill: IOError", **BEFORE)
    assert decide_outcome(claim, results, policies, default_backoff=FixedBackoff(1)).outcome == outcome


def test_handler_of_an_earlier_attempt_counts() -> None:
    claim = replace(CLAIM, handled_by=MAIL)
    assert decide_outcome(claim, {"bill": DONE}, POLICIES, default_backoff=FixedBackoff(1)).outcome == Completed()


def test_backoff_that_raises_is_returned_and_replaced() -> None:
    def backoff(attempt: int, error: BaseException) -> float:
        raise ZeroDivisionError

    policies = POLICIES | {"bill": RetryPolicy(max_retries=5, backoff=backoff)}
    decision = decide_outcome(CLAIM, {"mail": DONE, "bill": BROKEN}, policies, default_backoff=FixedBackoff(4))
    assert decision.outcome == Retry(delay=4, error="bill: ValueError: broken", handled_by=MAIL, **BILL)
    assert ["the backoff of handler 'bill'" in str(error) for error in decision.errors] == [True]
