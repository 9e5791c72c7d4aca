"""Derives the transition of a change in the backend's log from the two images of the item."""

from __future__ import annotations

from enum import Enum

from reliability.history import Stored, Written


class Step(Enum):
    """A transition of the state diagram."""

    PUBLISH = "publish"
    CLAIM = "claim"
    RENEW = "renewal"
    COMPLETE = "complete"
    RETRY = "retry or recovery"
    RELEASE = "release"
    FAIL = "fail"
    REPEAT = "repeat"
    REDRIVE = "redrive"
    DELETE = "delete"
    HOLD = "hold"
    RESUME = "resume"
    DISCARD = "discard"


_OF_HOLDER = {
    ("PROCESSING", "COMPLETED"): Step.COMPLETE,
    ("PENDING", "COMPLETED"): Step.COMPLETE,
    ("PROCESSING", "FAILED"): Step.FAIL,
    ("PENDING", "FAILED"): Step.FAIL,
    ("PROCESSING", "PROCESSING"): Step.RENEW,
    ("COMPLETED", "COMPLETED"): Step.REPEAT,
    ("FAILED", "FAILED"): Step.REPEAT,
}


_OF_OPERATORS = {
    ("PROCESSING", "HELD"): Step.HOLD,
    ("HELD", "PENDING"): Step.RESUME,
    ("FAILED", "DISCARDED"): Step.DISCARD,
    ("PENDING", "DISCARDED"): Step.DISCARD,
    ("HELD", "DISCARDED"): Step.DISCARD,
    ("DISCARDED", "DISCARDED"): Step.DISCARD,
}
"""The steps that take the token away: the hold of a worker, and what operators do to events that no worker holds."""


def step_of(write: Written) -> Step | None:
    """Name the transition of a change; None if the change does not match a transition."""
    before, after = write.before, write.after
    if after is None:
        return Step.DELETE
    if before is None:
        return Step.PUBLISH if after.status in ("PENDING", "PROCESSING") and not after.handled_by else None
    return _between(before, after)


def _between(before: Stored, after: Stored) -> Step | None:
    statuses = (before.status, after.status)
    if statuses == ("FAILED", "PENDING"):
        return Step.REDRIVE
    if (step := _OF_OPERATORS.get(statuses)) is not None:
        return step if after.token is None else None
    if after.token is not None and after.token == before.token:
        return _of_holder(before, after)
    return Step.CLAIM if statuses == ("PENDING", "PROCESSING") and after.token is not None else None


def _of_holder(before: Stored, after: Stored) -> Step | None:
    if after.status != "PENDING" or before.status not in ("PENDING", "PROCESSING"):
        return _OF_HOLDER.get((before.status, after.status))
    if after.retry_count != before.retry_count:
        return Step.RETRY
    return Step.RELEASE if before.status == "PROCESSING" else Step.REPEAT
