"""A: a terminal state is final, except for a redrive or a discard of a FAILED event."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reliability.checker.life import EventLife
from reliability.checker.steps import Step, is_mark, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Violation
from reliability.history import (
    Claimed,
    Discarded,
    HandlerEnded,
    ItemDeleted,
    Outcome,
    Record,
    Recovered,
    Redriven,
    Result,
    Settled,
    SettleFailed,
    Written,
)


def check_finality(timeline: Timeline) -> Iterator[Violation]:
    """Check the changes of an event after its end.

    - By the backend's log: a COMPLETED or DISCARDED item changes only by a repeat of the same write, or by a deletion
      on purpose. A FAILED item changes only by a requested redrive, which makes it PENDING without retries or a token,
      and keeps the handlers that are done, or by a requested discard.
    - An event becomes DISCARDED only after a request, and leaves the index. No later claim gets it.
    - By the records of the workers: after the response that an event is COMPLETED, no later claim gets it. After the
      response that it is FAILED, no claim gets it without a redrive in between. The final state is the settled one, and
      the log shows that the event was in it before the response.
    - An item that was deleted on purpose starts again with an emit that is repeated, or was still in flight.
    - An event with an ordering key that blocks its key is FAILED by its queue only. An operator may set it aside, and a
      worker that has lost its lease may still mark it as COMPLETED.
    """
    for life in timeline:
        yield from _changed_after_its_end(life)
        yield from _discarded(life)
        if life.has_log:
            yield from _told_otherwise(life)
        for end, is_failure in _ends(life):
            yield from _claimed_after(life, end, is_failure=is_failure)
            yield from _ended_otherwise(life, end, is_failure=is_failure)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="A", event_id=life.event_id, sentence=sentence, records=records)


def _changed_after_its_end(life: EventLife) -> Iterator[Violation]:
    for write in life.of(Written):
        before, after = write.before, write.after
        if before is None or before.status not in ("COMPLETED", "FAILED", "DISCARDED"):
            continue
        step = step_of(write)
        if step is Step.REPEAT or is_mark(write):
            continue
        if step is Step.DELETE and life.of(ItemDeleted):
            continue
        if step is Step.REDRIVE and after is not None:
            yield from _redriven(life, write)
        elif step is Step.DISCARD:
            continue  # `_discarded` looks at it
        else:
            became = "deleted" if after is None else after.status
            yield _violation(life, f"it was {before.status}, and became {became}", write)


def _discarded(life: EventLife) -> Iterator[Violation]:
    for write in life.of(Written):
        if step_of(write) is not Step.DISCARD or write.after is None:
            continue
        if not any(discard.at <= write.at for discard in life.of(Discarded)):
            yield _violation(life, "it became DISCARDED, and nobody had asked for that", write)
        if write.after.indexed or write.after.sort_key is not None:
            yield _violation(life, "it is DISCARDED, and the index still holds it", write)
        for claim in life.of(Claimed):
            if began(claim) > write.at and not life.begins_anew(write.at, claim.at):
                yield _violation(life, "it was claimed after it was DISCARDED", write, claim)


def _redriven(life: EventLife, write: Written) -> Iterator[Violation]:
    before, after = write.before, write.after
    asked = [redrive for redrive in life.of(Redriven) if redrive.at <= write.at]
    if not asked:
        yield _violation(life, "it was FAILED, and became PENDING, and nobody had asked for a redrive", write)
    elif before is not None and after is not None:
        # An event that returns to its line keeps the token of the claim that failed.
        expected = (0, before.token if after.status == "QUEUED" else None, before.handled_by)
        if (after.retry_count, after.token, after.handled_by) != expected:
            sentence = "its redrive did not take off the token and the retries, or lost which handlers were done"
            yield _violation(life, sentence, write)


def _ends(life: EventLife) -> Iterator[tuple[Settled | Recovered, bool]]:
    for settled in life.of(Settled):
        if settled.outcome in (Outcome.COMPLETE, Outcome.FAIL):
            yield settled, settled.outcome is Outcome.FAIL
    for recovered in life.of(Recovered):
        if recovered.failed:
            yield recovered, True


def _told_otherwise(life: EventLife) -> Iterator[Violation]:
    if life.of(ItemDeleted):
        return
    for end, is_failure in _ends(life):
        told = "FAILED" if is_failure else "COMPLETED"
        # A worker that has made its key FAILED may find out too late, or not at all, that another one had completed it.
        is_late = is_failure and life.line is not None and life.states("COMPLETED", until=end.at)
        if not is_late and not life.states(told, until=end.at):
            yield _violation(life, f"its outcome was told as {told}, and it was not {told}", end)


def _redrives(life: EventLife) -> list[float]:
    """List the times of redrives: of their requests, and of their execution, which may come long after the request."""
    carried_out = [write.at for write in life.of(Written) if step_of(write) is Step.REDRIVE]
    return [*(redrive.at for redrive in life.of(Redriven)), *carried_out]


def _since(life: EventLife, end: Settled | Recovered) -> float:
    # A redrive that is requested before the failure is written may still be repeated afterwards. The response to the
    # failure may come after the redrive and the next claim.
    starts = [began(claim) for claim in life.of(Claimed) if began(claim) <= began(end)]
    return max(starts, default=began(end))


def _known_since(life: EventLife, end: Settled | Recovered) -> float:
    # The settle of an event with an ordering key goes on though its item was deleted: its queue has to go on.
    return began(end) if life.line is None else _since(life, end)


def _claimed_after(life: EventLife, end: Settled | Recovered, *, is_failure: bool) -> Iterator[Violation]:
    for claim in life.of(Claimed):
        if began(claim) <= end.at:
            continue
        redriven = is_failure and any(_since(life, end) <= at <= claim.at for at in _redrives(life))
        if not redriven and not life.begins_anew(_known_since(life, end), claim.at):
            state = "FAILED, and not redriven" if is_failure else "COMPLETED"
            yield _violation(life, f"it was claimed again after it was {state}", end, claim)


def _ended_otherwise(life: EventLife, end: Settled | Recovered, *, is_failure: bool) -> Iterator[Violation]:
    if life.stored is None:
        return  # invariant L says what is wrong with that
    expected = "FAILED" if is_failure else "COMPLETED"
    redriven = is_failure and any(at >= _since(life, end) for at in _redrives(life))
    discarded = is_failure and life.stored.status == "DISCARDED" and bool(life.of(Discarded))
    allowed = redriven or discarded or (is_failure and _succeeded_late(life, end))
    if life.stored.status != expected and not allowed and not life.begins_anew(_known_since(life, end), math.inf):
        yield _violation(life, f"it was settled as {expected}, and is {life.stored.status} at the end", end)


def _succeeded_late(life: EventLife, end: Settled | Recovered) -> bool:
    """Return whether an event with an ordering key may have been marked before the failure of its queue.

    A worker may have done it under a lease that it had lost, or a transaction of a handler that was not answered.
    """
    token = end.token if isinstance(end, Settled) else None
    succeeded = [each for each in life.of(HandlerEnded) if each.result is Result.SUCCEEDED]
    in_doubt = [
        each
        for each in life.of(SettleFailed)
        if each.by_handler and each.outcome is Outcome.COMPLETE and each.maybe_applied and each.at <= end.at
    ]
    is_completed = life.stored is not None and life.stored.status == "COMPLETED"
    is_marked = bool(in_doubt) or any(each.token != token for each in succeeded)
    return life.line is not None and is_completed and is_marked
