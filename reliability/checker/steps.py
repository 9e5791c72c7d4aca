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
    ADVANCE = "advance to the front of the queue"


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


_OF_LINES = {
    ("QUEUED", "PENDING"): Step.ADVANCE,
    ("QUEUED", "DISCARDED"): Step.DISCARD,
    ("FAILED", "QUEUED"): Step.REDRIVE,
}
"""The steps of an event with an ordering key into its queue, to the front, or out of the queue."""


def step_of(write: Written) -> Step | None:
    """Name the transition of a change; None if the change does not match a transition."""
    before, after = write.before, write.after
    if after is None:
        return Step.DELETE
    if before is None:
        # An event that was deleted, and is stored again at the front of its queue, has the delivery of the queue, which
        # may also be on hold, or blocked by the event.
        waits_in_line = after.key is not None and after.waits
        is_new = after.status in ("QUEUED", "PENDING", "PROCESSING") and not after.handled_by
        return Step.PUBLISH if waits_in_line or is_new else None
    return _between(before, after)


def is_mark(write: Written) -> bool:
    """Tell whether a change is the mark of an event with an ordering key: it has ended, and leaves the queue next.

    A worker that has lost its lease may still mark an event, because its handlers have succeeded.
    """
    before, after = write.before, write.after
    return before is not None and after is not None and _is_mark(before, after)


def _is_mark(before: Stored, after: Stored) -> bool:
    return before.waits and not after.waits and after.status in ("COMPLETED", "FAILED")


def _between(before: Stored, after: Stored) -> Step | None:
    statuses = (before.status, after.status)
    if statuses == ("FAILED", "PENDING"):
        return Step.REDRIVE
    if before.key is not None:
        if statuses in _OF_LINES:
            return _OF_LINES[statuses] if after.token is None else None
        if _is_mark(before, after):
            return Step.COMPLETE if after.status == "COMPLETED" else Step.FAIL
    if (step := _OF_OPERATORS.get(statuses)) is not None:
        return step if after.token is None else None
    if after.token is not None and after.token == before.token:
        return _of_holder(before, after)
    is_claim = statuses in (("PENDING", "PROCESSING"), ("QUEUED", "PROCESSING")) and after.token is not None
    return Step.CLAIM if is_claim else None


def _of_holder(before: Stored, after: Stored) -> Step | None:
    if after.status != "PENDING" or before.status not in ("PENDING", "PROCESSING"):
        return _OF_HOLDER.get((before.status, after.status))
    if after.retry_count != before.retry_count:
        return Step.RETRY
    return Step.RELEASE if before.status == "PROCESSING" else Step.REPEAT
