"""D: a recorded expiry, crash or lost response explains every duplicate execution."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reliability.checker.life import STORING, EventLife, Execution
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.unlisted import was_entered
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    HandlerStarted,
    ItemDeleted,
    LeaseLost,
    Record,
    Recovered,
    Result,
    SettleFailed,
    SettleRefused,
    Written,
)

_TOLD = (SettleRefused, LeaseLost, SettleFailed)


def check_duplicates(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the calls of one handler for one event.

    - Under one token a handler is called at most once; a second call has no valid explanation, unless the item was
      deleted.
    - If the first call had succeeded, or had not ended, a second call needs an explanation between the earlier of their
      two claims and the second call: the backend's log shows that the lease had expired and the attempt was counted, or
      that the window was taken; the first call was abandoned; or the item was deleted and emitted again.
    - Without a log, these are explanations, too: the worker of the first call was killed; the event was recovered; a
      response about the event, or an unknown response, was lost (except the response to the request that stored the
      event, because its repeats are conditional); its lease had expired, and a worker that may have recovered it was
      killed. At any time, it is also an explanation if the worker of the first call lost its lease, or could not learn
      whether its outcome was written.
    - If the first call failed or was cancelled, and had ended, a second call is a retry.
    """
    for life in timeline:
        executions = life.executions()
        for later in range(1, len(executions)):
            for earlier in range(later):
                first, second = executions[earlier], executions[later]
                if first.started.handler == second.started.handler:
                    yield from _judged(life, first, second, timeline, limits)


def _judged(
    life: EventLife, first: Execution, second: Execution, timeline: Timeline, limits: Limits
) -> Iterator[Violation]:
    one, other = first.started, second.started
    # If the item was deleted and stored again, two claims may have the same attempt, which is all that handlers tell.
    if one.token == other.token and one.token and not life.of(ItemDeleted):
        yield _violation(life, f"handler {one.handler!r} was called twice under one claim", one, other)
        return
    has_ended = first.end_place < second.place and first.abandoned_at > other.at
    succeeded = first.ended is not None and first.ended.result is Result.SUCCEEDED
    if has_ended and not succeeded:
        return
    if not _is_explained(life, first, second, timeline, limits):
        state = "it had succeeded" if has_ended else "the first call had ended"
        sentence = f"handler {one.handler!r} was called again by {other.worker} "
        sentence += f"{'after' if has_ended else 'before'} {state} with {one.worker}, and nothing explains it"
        shown = (one, first.ended, other) if first.ended is not None else (one, other)
        yield _violation(life, sentence, *shown)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="D", event_id=life.event_id, sentence=sentence, records=records)


def _is_explained(life: EventLife, first: Execution, second: Execution, timeline: Timeline, limits: Limits) -> bool:
    one, until = first.started, second.started.at
    claim, other = life.claims().get(one.token), life.claims().get(second.started.token)
    # A handler may wait for its permit, so the second call may be under the earlier claim.
    since = min(one.at if each is None else began(each) for each in (claim, other))
    if one.token == second.started.token:
        # The item was deleted and stored again, and the records of the calls do not tell the two claims apart.
        since = min(since, *(began(each) for each in life.of(Claimed) if each.worker == one.worker))
    if first.abandoned_at <= until or life.begins_anew(since, until):
        return True
    if any(_expired(write, since, until, timeline, limits) for write in life.of(Written)):
        return True
    # Of all that may have happened, only what the log shows lets another claim come.
    return not life.has_log and (
        _may_have_been_recovered(life, one, timeline, since=since, until=until)
        or any(isinstance(record, _TOLD) and record.token == one.token for record in life.records)
        or _recovered_unseen(life, claim, second, timeline, limits)
    )


def _may_have_been_recovered(
    life: EventLife, first: HandlerStarted, timeline: Timeline, *, since: float, until: float
) -> bool:
    if since <= timeline.killed_at(first.worker) <= until:
        return True
    if any(since <= recovered.at and began(recovered) <= until for recovered in life.of(Recovered)):
        return True
    lost = [reply for reply in life.replies_lost if reply.operation not in STORING]
    return any(since <= reply.at <= until for reply in [*lost, *timeline.replies_lost_of_unknown])


def _expired(write: Written, since: float, until: float, timeline: Timeline, limits: Limits) -> bool:
    before, after = write.before, write.after
    if before is None or after is None or write.at < since or began(write) > until or before.status != "PROCESSING":
        return False
    latest = write.at + timeline.offset(write.worker) + limits.tolerance
    expired = before.sort_key is not None and before.sort_key / 1000 <= latest
    expired = expired or was_entered(write, timeline)
    is_counted = after.status == "FAILED" or (after.status == "PENDING" and after.retry_count > before.retry_count)
    return expired and is_counted and after.token == before.token


def _recovered_unseen(
    life: EventLife, claim: Claimed | None, second: Execution, timeline: Timeline, limits: Limits
) -> bool:
    until = second.started.at
    ends = math.inf if claim is None else life.lease_ends(claim.token, before=until)
    latest = until + timeline.greatest_offset + limits.tolerance
    return ends <= latest and bool(timeline.kills_between(ends - timeline.greatest_offset - limits.tolerance, until))
