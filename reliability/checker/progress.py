"""P: after a fault ends, progress resumes within lease + poll interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from reliability.checker.holds import WORKERS_KNOW_AFTER
from reliability.checker.life import EventLife
from reliability.checker.stops import spans_of_faults
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    HandlerEnded,
    HandlerStarted,
    HoldStored,
    LeaseRenewed,
    Outcome,
    Record,
    Recovered,
    Redriven,
    ReplyLost,
    ResumeAsked,
    Settled,
    SettleFailed,
    Stored,
    StoredQueue,
    WorkerKilled,
    WorkerResumed,
    WorkerStarted,
    WorkerSuspended,
)

_SIGNS = (Claimed, HandlerStarted, HandlerEnded, Settled, LeaseRenewed, Recovered)


def check_progress(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check how soon work resumes after faults, and that no event starves.

    The last fault ends with the last `FaultEnded`, `ReplyLost`, kill, resumption or start of a worker; if a
    fault never ended, or the history ends too early, the check is skipped. The time to resume is the longest lease or
    the longest pause after errors, whichever is longer, plus the longest poll interval, plus the slack.

    - If an event was due and unfinished at the end of the last fault, and a worker lives, a worker claims, recovers,
      renews, settles, or starts or ends a handler within that time.
    - At the end, every event and every queue that is due or has an expired lease has been so for less than that time.
    """
    living = {worker: start for worker, start in timeline.started.items() if _lives(timeline, worker)}
    last = _last_fault(timeline)
    if not living or math.isinf(last):
        return
    lease = max(*(start.lease for start in timeline.started.values()), limits.longest_backoff)
    within = lease + max(start.poll_interval for start in living.values()) * 1.1 + limits.slack
    end = max(min(timeline.ended_at(worker), timeline.final.at) for worker in living)
    if last + within > end:
        return
    yield from _resumed(timeline, last, within)
    for life in timeline:
        yield from _starved(life.event_id, life.stored, end - within - timeline.greatest_offset, life.records)
    for queue in timeline.final.queues.values():
        yield from _starved(queue.front, queue, end - within - timeline.greatest_offset, ())


def _lives(timeline: Timeline, worker: str) -> bool:
    return math.isinf(timeline.killed_at(worker))


def _last_fault(timeline: Timeline) -> float:
    ends = [over for _, over in spans_of_faults(timeline)]
    suspended: set[str] = set()
    for record in timeline.history:
        if isinstance(record, WorkerSuspended):
            suspended.add(record.worker)
        elif isinstance(record, (WorkerKilled, WorkerResumed)):
            suspended.discard(record.worker)
        if isinstance(record, (ReplyLost, WorkerKilled, WorkerResumed, WorkerStarted)):
            ends.append(record.at)
        elif isinstance(record, (HoldStored, ResumeAsked)):
            ends.append(record.at + WORKERS_KNOW_AFTER)
    return math.inf if suspended else max(ends, default=-math.inf)


def _resumed(timeline: Timeline, last: float, within: float) -> Iterator[Violation]:
    signs = [record for record in timeline.history if isinstance(record, _SIGNS)]
    if any(last <= record.at <= last + within for record in signs):
        return
    for life in timeline:
        if _is_waiting(life, last):
            sentence = f"nothing was done about any event within {within:.1f} s after the last fault had ended"
            yield Violation(invariant="P", event_id=life.event_id, sentence=sentence)
            return


def _is_waiting(life: EventLife, moment: float) -> bool:
    """Return whether an event was acknowledged, due, and certainly unfinished at a given time."""
    due = max((emit.due_at or emit.at for emit in life.of(EmitAsked)), default=math.inf)
    due = max(due, *(retry.at + retry.delay for retry in life.of(Settled) if retry.at <= moment), -math.inf)
    acknowledged = any(emit.at <= moment for emit in life.of(EmitAcknowledged))
    return acknowledged and due <= moment < _end_of(life)


def _end_of(life: EventLife) -> float:
    """Return the earliest time at which an event ended; infinity if it did not end."""
    stored = life.stored
    if stored is None or any(isinstance(record, (SettleFailed, Redriven)) for record in life.records):
        return -math.inf
    ends = [began(settled) for settled in life.of(Settled) if settled.outcome in (Outcome.COMPLETE, Outcome.FAIL)]
    ends += [began(recovered) for recovered in life.of(Recovered) if recovered.failed]
    unfinished = stored.status in ("PENDING", "PROCESSING")
    return min(ends, default=math.inf if unfinished else -math.inf)


def _starved(
    event_id: str, stored: Stored | StoredQueue | None, since: float, records: Sequence[Record]
) -> Iterator[Violation]:
    if stored is None or stored.status not in ("PENDING", "PROCESSING") or stored.sort_key is None:
        return
    if stored.sort_key / 1000 <= since:
        waiting = "has been due" if stored.status == "PENDING" else "has had an expired lease"
        sentence = f"it {waiting} for {since - stored.sort_key / 1000:.1f} s longer than it takes to get to it"
        yield Violation(invariant="P", event_id=event_id, sentence=sentence, records=tuple(records[-1:]))
