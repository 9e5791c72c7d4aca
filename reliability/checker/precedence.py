"""O, without a log of the backend: which event of a key had to come before which, by the answers to emits."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from reliability.checker.life import EventLife, Execution
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Discarded,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    HandlerStarted,
    ItemDeleted,
    Outcome,
    Record,
    Recovered,
    Redriven,
    Result,
    Settled,
    SettleFailed,
    Skipped,
)


def check_precedence(key: str, lives: Sequence[EventLife], timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the events of a key whose emit was acknowledged before the emit of another one began.

    - No handler is called for the first one after a handler was called for the other one.
    - No handler is called for the other one before the first one may have ended: its handlers had succeeded, or it was
      set aside, skipped or discarded.
    """
    lives = [life for life in lives if not life.of(ItemDeleted)]
    started = [life for life in lives if _starts(life, timeline)]
    for earlier, later in foremost(started, lambda life: _starts(life, timeline)[-1].at):
        first, again = _starts(later, timeline)[0], _starts(earlier, timeline)[-1]
        if again.at > first.at and not is_late_by_a_clock(earlier, again, timeline, limits):
            sentence = f"a handler was called after {later.event_id} had begun, which comes after it in key {key!r}"
            yield _violation(earlier, sentence, first, again)
    for earlier, later in foremost(lives, lambda life: _may_have_ended(life, timeline)):
        starts = _starts(later, timeline)
        if starts and starts[0].at < _may_have_ended(earlier, timeline):
            sentence = f"{later.event_id} had begun, which comes after it in key {key!r}, and it had not ended"
            yield _violation(earlier, sentence, starts[0])


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="O", event_id=life.event_id, sentence=sentence, records=records)


def lease_ends(life: EventLife, start: HandlerStarted) -> float:
    """Return the end of the lease under which a handler was called; infinity if the claim is not recorded."""
    ends = life.lease_ends(start.token, before=start.at)
    return math.inf if math.isinf(ends) else ends


def is_late_by_a_clock(life: EventLife, start: HandlerStarted, timeline: Timeline, limits: Limits) -> bool:
    """Tell whether the lease of a call was over by the clock of a worker."""
    return start.at >= lease_ends(life, start) - timeline.greatest_offset - limits.tolerance


def _starts(life: EventLife, timeline: Timeline) -> list[HandlerStarted]:
    """List the calls of handlers, without those after a redrive: this may send the event to the end of the queue."""
    failed_at = _may_have_failed(life, timeline)
    until = min((redrive.at for redrive in life.of(Redriven) if failed_at <= redrive.at), default=math.inf)
    return [start for start in life.of(HandlerStarted) if start.at < until]


def _may_have_failed(life: EventLife, timeline: Timeline) -> float:
    """Return the earliest time at which an event may have become a dead letter; infinity if it has not."""
    settled: list[Settled | SettleFailed] = [*life.of(Settled), *life.of(SettleFailed)]
    claims = life.claims()
    # A redrive may be asked for before the failure, and be carried out after it.
    ends = [began(claims.get(each.token, each)) for each in settled if each.outcome is Outcome.FAIL]
    ends += [began(recovered) for recovered in life.of(Recovered) if recovered.failed]
    # The worker may have been killed before it was answered.
    return min([*ends, *(kill.at for kill in timeline.kills_between(-math.inf, math.inf))], default=math.inf)


def _may_have_ended(life: EventLife, timeline: Timeline) -> float:
    """Return the earliest time at which an event may have ended; infinity if it has not."""
    done: dict[str, float] = {}
    for execution in life.executions():
        at = _may_have_succeeded(execution, timeline)
        handler = execution.started.handler
        done[handler] = min(at, done.get(handler, math.inf))
    ends = [max(done.values(), default=math.inf)]
    ends += [began(settled) for settled in life.of(Settled) if settled.by_handler or settled.outcome is Outcome.FAIL]
    ends += [began(failed) for failed in life.of(SettleFailed) if failed.by_handler or failed.outcome is Outcome.FAIL]
    failed_at = _may_have_failed(life, timeline)
    ends += [skipped.at for skipped in life.of(Skipped) if failed_at <= skipped.at]
    if life.stored is None or life.stored.status == "DISCARDED":
        ends += [discarded.at for discarded in life.of(Discarded)]
    return min(ends)


def _may_have_succeeded(execution: Execution, timeline: Timeline) -> float:
    if execution.ended is None:
        # Its transaction may have been committed.
        return execution.started.at if timeline.killed_at(execution.started.worker) < math.inf else math.inf
    return execution.ended.at if execution.ended.result is Result.SUCCEEDED else math.inf


def foremost(lives: Sequence[EventLife], value: Callable[[EventLife], float]) -> Iterator[tuple[EventLife, EventLife]]:
    """For each event, yield those with the largest value among the events that have to come before it, and it.

    An event has to come before another one if a caller knew that it was stored before the other one was emitted, or if
    it is before the other one in the same call. Events that took the place of another one do not count.
    """
    kept = [life for life in lives if life.of(EmitAsked)]
    kept = [life for life in kept if not any(asked.replaces for asked in life.of(EmitAsked))]
    answered = sorted(((_answered_at(life), life) for life in kept), key=itemgetter(0))
    times = [at for at, _ in answered]
    largest = _running_largest([life for _, life in answered], value)
    calls: defaultdict[tuple[str, int], list[EventLife]] = defaultdict(list)
    for life in kept:
        asked = life.of(EmitAsked)[0]
        count = bisect_left(times, asked.at)
        if count and largest[count - 1] is not life:
            yield largest[count - 1], life
        if asked.call and _is_stored_by(life, asked):
            calls[asked.worker, asked.call].append(life)
    for of_call in calls.values():
        together = sorted(of_call, key=lambda life: life.of(EmitAsked)[0].number)
        before = _running_largest(together, value)
        yield from zip(before, together[1:], strict=False)


def _running_largest(lives: Sequence[EventLife], value: Callable[[EventLife], float]) -> list[EventLife]:
    """For each place, return the event with the largest value up to there."""
    largest: list[EventLife] = []
    values: list[float] = []
    for life in lives:
        at = value(life)
        is_larger = not values or at > values[-1]
        largest.append(life if is_larger else largest[-1])
        values.append(at if is_larger else values[-1])
    return largest


def _answered_at(life: EventLife) -> float:
    """Return when a caller knew that an event is stored."""
    told = [answer.at for answer in life.of(EmitAcknowledged)]
    told += [
        answer.at
        for answer in life.of(EmitRefused)
        if answer.error.startswith("DuplicateEventError") and repr(life.event_id) in answer.error
    ]
    return min(told, default=math.inf)


def _is_stored_by(life: EventLife, asked: EmitAsked) -> bool:
    """Tell whether the first emit of an event has stored it: no other emit of it began before the answer."""
    answers = [answer.at for answer in life.of(EmitAcknowledged) if answer.worker == asked.worker]
    others = [ask.at for ask in life.of(EmitAsked) if ask is not asked]
    return bool(answers) and min(others, default=math.inf) > answers[0]
