"""O, for each key: handlers of one claim at a time, and no key that is stuck without a reason."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from reliability.checker.life import EventLife, Execution
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    ItemDeleted,
    Outcome,
    QueueWritten,
    Recovered,
    Settled,
    SettleFailed,
    StoredQueue,
    Written,
)

Call = tuple[Execution, EventLife]


def check_overlaps(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the claims of each ordering key.

    - While a handler runs, no handler of another claim of its key is called, unless the lease of the earlier claim was
      over by the clock of a worker, its worker was killed, or the handler was abandoned.
    - A queue that is FAILED at the end is blocked by an event that has failed: a worker has settled it so, or may have.
      If a worker has completed the event after that, it looks whether it blocks its key, unless it was killed then, or
      has no answer to its write.
      Where dead letters are skipped, no queue is FAILED.
    """
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    lives: dict[str, EventLife] = {}
    for life in timeline:
        if life.line is not None:
            lives[life.event_id] = life
            calls[life.line.key] += [(execution, life) for execution in life.executions()]
    for key, of_key in calls.items():
        yield from _overlapping(key, of_key, timeline, limits)
    for queue in timeline.final.queues.values():
        if queue.status == "FAILED":
            yield from _blocked(queue, lives.get(queue.front), timeline)


def _overlapping(key: str, calls: list[Call], timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    running: list[Call] = []
    for call in sorted(calls, key=lambda call: call[0].started.at):
        start = call[0].started
        running = [other for other in running if _runs(other[0], start.at, timeline)]
        for other, life in running:
            earlier = min((call, (other, life)), key=_claimed_at)
            if other.started.token != start.token and not _was_over(earlier, start.at, timeline, limits):
                sentence = (
                    f"{start.worker} called a handler of {start.event_id}, while {other.started.worker} held the "
                )
                sentence += f"lease of key {key!r}, and ran a handler"
                records = (other.started, start)
                yield Violation(invariant="O", event_id=life.event_id, sentence=sentence, records=records)
        running.append(call)


def _claimed_at(call: Call) -> float:
    execution, life = call
    token = execution.started.token
    if life.line is not None and token in life.line.claimed_at:
        return life.line.claimed_at[token]  # the request of a process that stood still may have begun long before
    claims = [began(claim) for claim in life.of(Claimed) if claim.token == token]
    return min(claims, default=execution.started.at)


def _was_over(call: Call, moment: float, timeline: Timeline, limits: Limits) -> bool:
    """Return whether the lease of a call was over at a moment, by any clock; a log shows that it was recovered."""
    execution, life = call
    if life.line is not None and life.line.writes:
        ends = life.line.lease_recovered(execution.started.token, moment)
    else:
        ends = life.lease_ends(execution.started.token, before=moment)
    return ends - timeline.greatest_offset - limits.tolerance <= moment


def _runs(execution: Execution, moment: float, timeline: Timeline) -> bool:
    if execution.abandoned_at <= moment or timeline.killed_at(execution.started.worker) <= moment:
        return False
    return execution.ended is None or execution.ended.at > moment


def _blocked(queue: StoredQueue, life: EventLife | None, timeline: Timeline) -> Iterator[Violation]:
    def violation(sentence: str) -> Violation:
        records = () if life is None else tuple(life.records[-1:])
        return Violation(invariant="O", event_id=queue.front, sentence=sentence, records=records)

    if timeline.started and all(start.skips_failed for start in timeline.started.values()):
        yield violation(f"it blocks key {queue.key!r}, and dead letters are skipped")
    stored = timeline.final.events.get(queue.front)
    if life is not None and life.of(ItemDeleted):
        return
    if life is not None and stored is not None and stored.status == "COMPLETED" and _nobody_looked(life, timeline):
        return
    if stored is None or not stored.waits:
        state = "not stored" if stored is None else stored.status
        yield violation(f"it is {state}, and blocks key {queue.key!r}")
    elif life is None or not _has_failed(life, timeline):
        yield violation(f"it blocks key {queue.key!r}, and no worker has settled it as FAILED")


def _nobody_looked(life: EventLife, timeline: Timeline) -> bool:
    """Return whether the worker that completed an event was killed, or was not answered; without a log, one of all."""
    unanswered = {each.worker for each in life.of(SettleFailed) if each.outcome is Outcome.COMPLETE}
    answered = {each.worker for each in life.of(Settled) if each.outcome is Outcome.COMPLETE}
    completions = [each for each in life.of(Written) if each.after is not None and each.after.status == "COMPLETED"]
    workers = {each.worker for each in completions} or {each.worker for each in life.of(Claimed)}
    return any(each in unanswered or timeline.killed_at(each) < math.inf for each in workers - answered)


def _has_failed(life: EventLife, timeline: Timeline) -> bool:
    """Return whether the worker that has blocked the key says so, or was killed; without a log, any worker."""
    writes = [] if life.line is None else [write for write in life.line.writes if _blocks(write)]
    blocked_by = writes[-1].worker if writes else ""
    settled: list[Settled | SettleFailed] = [*life.of(Settled), *life.of(SettleFailed)]
    tellers = {each.worker for each in settled if each.outcome is Outcome.FAIL}
    tellers |= {each.worker for each in life.of(Recovered) if each.failed}
    if blocked_by:
        return blocked_by in tellers or timeline.killed_at(blocked_by) < math.inf
    return bool(tellers or life.replies_lost or timeline.kills_between(-math.inf, math.inf))


def _blocks(write: QueueWritten) -> bool:
    before, after = write.before, write.after
    return after is not None and after.status == "FAILED" and (before is None or before.status != "FAILED")
