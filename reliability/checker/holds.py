"""H: a held type is not started once every worker can know of the hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reliability.checker.life import EventLife
from reliability.checker.steps import Step, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import HandlerStarted, HoldAsked, HoldStored, HoldsUnread, ResumeAsked, Written

WORKERS_KNOW_AFTER: Final = 8.0
"""A worker reads the holds every five seconds, and waits two seconds for the answer; one is for the rest."""
LONGEST_CALL: Final = 60.0
"""How long a resume may take, with all its requests and their repeats."""


@dataclass(frozen=True, slots=True)
class _Span:
    record: HoldStored
    start: float
    end: float


def check_holds(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the starts of handlers while a type, or every type, is held.

    - No handler of a held type starts later than a worker can know of the hold, and not after its end: a resume or
      another hold that was requested, or its `until`. A handler may wait for its permit for half the lease. A worker
      that could not read the holds is excepted.
    - By the backend's log: a hold keeps the retries and the handlers that are done, and so does a resume.
    """
    spans = [_span_of(hold, timeline) for hold in timeline.of(HoldStored)]
    for life in timeline:
        for start in life.of(HandlerStarted):
            yield from _started(life, start, spans, timeline, limits)
        yield from _kept(life)


def is_held(timeline: Timeline, event_type: str, moment: float) -> bool:
    """Return whether a hold of a type may be in force."""
    spans = [_span_of(hold, timeline) for hold in timeline.of(HoldStored) if hold.type == event_type]
    return any(span.start <= moment <= span.end for span in spans)


def _span_of(hold: HoldStored, timeline: Timeline) -> _Span:
    resumes = [resume.at for resume in timeline.of(ResumeAsked) if resume.type == hold.type]
    # A resume that was asked for before may be carried out later, in one of its repeats.
    ends = [max(at, hold.at) for at in resumes if at > began(hold) - LONGEST_CALL]
    others = [other for other in timeline.of(HoldStored) if other.type == hold.type and other is not hold]
    ends += [began(other) for other in others if other.at > hold.at]
    # A hold without an answer may be stored, too, at any time after its request, and end earlier.
    answered = {began(stored) for stored in timeline.of(HoldStored) if stored.type == hold.type}
    asked = [ask.at for ask in timeline.of(HoldAsked) if ask.type == hold.type and ask.at not in answered]
    ends += [max(at, hold.at) for at in asked if at > began(hold) - LONGEST_CALL]
    until = math.inf if hold.until is None else hold.until - timeline.greatest_offset
    return _Span(hold, hold.at, min(until, *ends, math.inf))


def _started(
    life: EventLife, start: HandlerStarted, spans: list[_Span], timeline: Timeline, limits: Limits
) -> Iterator[Violation]:
    worker = timeline.started.get(start.worker)
    late = WORKERS_KNOW_AFTER + limits.tolerance + (0.0 if worker is None else worker.lease / 2)
    for span in spans:
        if span.record.type not in ("", life.event_type) or not span.start + late <= start.at < span.end:
            continue
        unread = any(
            each.worker == start.worker and max(span.start, start.at - late) <= each.at
            for each in timeline.of(HoldsUnread)
        )
        if not unread:
            what = f"type {span.record.type!r} was" if span.record.type else "all types were"
            sentence = f"{start.worker} started a handler {start.at - span.start:.1f} s after {what} held"
            yield Violation(invariant="H", event_id=life.event_id, sentence=sentence, records=(span.record, start))


def _kept(life: EventLife) -> Iterator[Violation]:
    for write in life.of(Written):
        before, after, step = write.before, write.after, step_of(write)
        if before is None or after is None or step not in (Step.HOLD, Step.RESUME):
            continue
        if (before.retry_count, before.handled_by) != (after.retry_count, after.handled_by):
            sentence = f"a {step.value} changed its retries, or which handlers are done"
            yield Violation(invariant="H", event_id=life.event_id, sentence=sentence, records=(write,))
        if step is Step.RESUME and before.sort_key != after.sort_key:
            sentence = "a resume changed its due time"
            yield Violation(invariant="H", event_id=life.event_id, sentence=sentence, records=(write,))
