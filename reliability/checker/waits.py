"""R, second part: no event is delivered before it is due, and retries wait for their backoff."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.checker.life import EventLife
from reliability.checker.retries import another_has_a_retry
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    EmitAsked,
    HandlerEnded,
    Outcome,
    Record,
    Recovered,
    Redriven,
    ReplyLost,
    RequestFailed,
    Result,
    Settled,
    TimeMoved,
    WorkerStarted,
)


def check_waits(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the waiting times of events, within the tolerance and the offsets of the clocks.

    - The delay of a retry is the longest delay among the failed handlers: of `RetryLater`, or `base_backoff * 2 **
      (attempt - 1)`. Handlers with their own backoff, or without a retry, do not count. If only a handler that got no
      permit or was cancelled has a retry left, the delay is 0.
    - After a retry or a release, no claim comes before the delay is over, except after a redrive or a move by hand, or
      if the item was deleted and stored again, or if the lease was recovered while the worker repeated a release.
    - A delayed event is not claimed before it is due.
    """
    for life in timeline:
        for settled in life.of(Settled):
            start = timeline.started.get(settled.worker)
            if settled.outcome is Outcome.RETRY and start is not None:
                yield from _delay_of(life, settled, start, limits)
            if settled.outcome in (Outcome.RETRY, Outcome.RELEASE):
                yield from _waited(life, settled, timeline, limits)
        yield from _not_early(life, timeline, limits)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="R", event_id=life.event_id, sentence=sentence, records=records)


def _delay_of(life: EventLife, settled: Settled, start: WorkerStarted, limits: Limits) -> Iterator[Violation]:
    failed = [end for end in life.of(HandlerEnded) if end.token == settled.token and end.result is Result.FAILED]
    usual = start.base_backoff * 2.0 ** (settled.attempt - 1)
    rules = [(end, limits.rule_of(end.handler)) for end in failed]
    if any(rule.judges for _, rule in rules):
        return
    delays = [
        usual if end.retry_in is None else end.retry_in
        for end, rule in rules
        if settled.attempt <= (start.max_retries if rule.max_retries is None else rule.max_retries)
    ]
    waits = another_has_a_retry(life, settled, default=start.max_retries, limits=limits)
    # An attempt without a handler is a failed attempt as well.
    expected = max(delays, default=0.0 if waits else usual)
    if abs(settled.delay - expected) > limits.tolerance:
        sentence = f"retry {settled.attempt} waits {settled.delay:g} s, and had to wait {expected:g} s"
        yield _violation(life, sentence, *failed, settled)


def _waited(life: EventLife, settled: Settled, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    due = began(settled) + settled.delay
    if _was_lost(life, settled):
        return
    later = [claim for claim in life.of(Claimed) if claim.token != settled.token and began(claim) > settled.at]
    if not later:
        return
    claim = min(later, key=began)
    excuses: list[Redriven | TimeMoved] = [*life.of(Redriven), *life.of(TimeMoved)]
    if any(began(settled) <= excuse.at <= claim.at for excuse in excuses):
        return
    if life.begins_anew(began(settled), claim.at) or _was_recovered_first(life, settled):
        return
    early = due - claim.at - _inexact(timeline, settled.worker, claim.worker, limits)
    if early > 0:
        sentence = f"it was to wait {settled.delay:g} s, and was claimed {due - claim.at:.3f} s too early"
        yield _violation(life, sentence, settled, claim)


def _was_recovered_first(life: EventLife, settled: Settled) -> bool:
    """Return whether a recovery may have come before a repeated release: the worker takes it for its own release."""
    if settled.outcome is not Outcome.RELEASE:
        return False
    repeated: list[RequestFailed | ReplyLost] = [*life.of(RequestFailed), *life.replies_lost]
    is_repeated = any(
        each.worker in (settled.worker, "") and began(settled) <= each.at <= settled.at for each in repeated
    )
    return is_repeated and any(
        not recovered.failed and began(recovered) <= settled.at and began(settled) <= recovered.at
        for recovered in life.of(Recovered)
    )


def _was_lost(life: EventLife, settled: Settled) -> bool:
    own = life.claims().get(settled.token)
    return own is not None and any(own.at < began(claim) <= settled.at for claim in life.of(Claimed))


def _not_early(life: EventLife, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    asked = [emit for emit in life.of(EmitAsked) if emit.due_at is not None]
    if len(asked) != len(life.of(EmitAsked)) or not asked or not life.of(Claimed):
        return
    first = min(life.of(Claimed), key=began)
    emit = min(asked, key=lambda emit: emit.due_at or 0.0)
    due = emit.due_at or 0.0
    if due - first.at > _inexact(timeline, emit.worker, first.worker, limits):
        yield _violation(life, f"it was claimed {due - first.at:.3f} s before it was due", emit, first)


def _inexact(timeline: Timeline, one: str, other: str, limits: Limits) -> float:
    return timeline.offset(one) + timeline.offset(other) + limits.tolerance
