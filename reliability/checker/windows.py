"""L, F and S, for windows: an event that is in no index is found by its window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

from dynamodb_outbox.event_ids import numbered_id
from reliability.checker.life import EventLife
from reliability.checker.stops import spans_of_faults
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    EmitAcknowledged,
    Record,
    StoredWindow,
    WindowWritten,
    WorkerKilled,
    WorkerResumed,
    WorkerStopped,
    Written,
)

AnyWrite = TypeVar("AnyWrite", Written, WindowWritten)


def check_windows(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the windows, and the events that are claimed on emit and in no index.

    By the backend's log:

    - L: from its acknowledgement on, an event is at every moment in the index, or at its end, or its window is open and
      covers its number.
    - F: the range of a window moves forward only. Its token changes only when its lease has run out, by the clock of
      the worker that takes it. A window that was recovered changes no more, and only its first holder deletes it.

    By the final state:

    - S: when all workers have stopped, long after the last fault, kill and suspension, no window is open. A stop may
      interrupt a recovery that has just taken a window.
    """
    for name, writes in timeline.windows.items():
        for write in writes:
            yield from _changed(name, write, writes[0], timeline, limits)
    covers = {name: _Cover(writes) for name, writes in timeline.windows.items()}
    for life in timeline:
        yield from _not_covered(life, covers)
    yield from _left_open(timeline, limits)


# The windows


def _violation(invariant: str, event_id: str | None, sentence: str, *records: Record) -> Violation:
    return Violation(invariant=invariant, event_id=event_id, sentence=sentence, records=records)


def _changed(
    name: str, write: WindowWritten, opening: WindowWritten, timeline: Timeline, limits: Limits
) -> Iterator[Violation]:
    before, after = write.before, write.after
    wrong = ""
    if before is None:
        wrong = "" if after is not None and after.is_open else "it was stored as recovered"
    elif not before.is_open:
        wrong = "it was recovered, and changed again"
    elif after is None:
        if opening.after is not None and before.token != opening.after.token:
            wrong = "it was deleted after it was taken"
    elif after.token != before.token:
        wrong = _taken(before, after, write, timeline, limits)
    elif after.seed != before.seed or after.start < before.start or after.end < before.end:
        wrong = f"its numbers went from {before.start} to {before.end} back to {after.start} to {after.end}"
    if wrong:
        yield _violation("F", None, f"window {name}: {wrong}", write)


def _taken(before: StoredWindow, after: StoredWindow, write: WindowWritten, timeline: Timeline, limits: Limits) -> str:
    if (after.start, after.end, after.seed) != (before.start, before.end, before.seed):
        return "it was taken, and its numbers changed"
    latest = write.at + timeline.offset(write.worker) + limits.tolerance
    ends = (before.sort_key or 0) / 1000
    return f"{write.worker} took it {ends - write.at:.3f} s before its lease ran out" if ends > latest else ""


def _left_open(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    left = timeline.final.windows
    if not left or not timeline.started or not timeline.started.keys() <= timeline.ended.keys():
        return
    kills = [kill.at for kill in timeline.of(WorkerKilled)]
    resumes = [resume.at for resume in timeline.of(WorkerResumed)]
    calm = max([*kills, *resumes, *(over for _, over in spans_of_faults(timeline))], default=-math.inf)
    lease = max(start.lease for start in timeline.started.values())
    recovered = calm + 2 * lease + timeline.greatest_offset + limits.slack
    stops = [stop.at for stop in timeline.of(WorkerStopped) if stop.at > calm]
    if stops and min(stops) > recovered:
        for name, window in left.items():
            written = timeline.windows.get(name, [])
            if written and _is_taken(written[-1]) and written[-1].at > min(stops) - lease:
                continue
            sentence = f"all workers have stopped, and window {name} is open, from {window.start} to {window.end}"
            yield _violation("S", None, sentence, *written[-1:])


def _is_taken(write: WindowWritten) -> bool:
    return write.before is not None and write.after is not None and write.before.token != write.after.token


# Their events


class _Cover:
    """The numbers that a window covers, from each of its changes to the next."""

    def __init__(self, writes: list[WindowWritten]) -> None:
        self._spans = [(write.at, until, write.after) for write, until in _until_the_next(writes)]
        states = [window for _, _, window in self._spans if window is not None]
        self._numbers = {
            numbered_id(bytes.fromhex(state.seed), number): number
            for state in states[:1]
            for number in range(min(each.start for each in states), max(each.end for each in states))
        }

    def gap(self, event_id: str, since: float, until: float) -> float | None:
        """Return when the window does not cover an event within a time; None if it always does."""
        number = self._numbers.get(event_id)
        if number is None:
            return since
        reached = since
        for start, end, window in self._spans:
            if end <= reached:
                continue
            if start > reached or window is None or not window.is_open or not window.start <= number < window.end:
                return reached
            reached = end
            if reached >= until:
                return None
        return reached


def _until_the_next(writes: Sequence[AnyWrite]) -> Iterator[tuple[AnyWrite, float]]:
    """Pair changes with the time of the next change."""
    for place, write in enumerate(writes):
        yield write, writes[place + 1].at if place + 1 < len(writes) else math.inf


def _not_covered(life: EventLife, covers: dict[str, _Cover]) -> Iterator[Violation]:
    acknowledged = min((emit.at for emit in life.of(EmitAcknowledged)), default=math.inf)
    writes = life.of(Written)
    if any(began(write) != write.at for write in writes):
        return  # the log does not tell the order of the changes of events and of windows
    for write, until in _until_the_next(writes):
        stored = write.after
        if stored is None or not stored.is_unlisted or stored.window is None or until <= acknowledged:
            continue
        since = max(write.at, acknowledged)
        cover = covers.get(stored.window)
        gap = since if cover is None else cover.gap(life.event_id, since, until)
        if gap is not None:
            sentence = f"it is acknowledged, PROCESSING and in no index, and from {gap - since:.3f} s on"
            yield _violation("L", life.event_id, f"{sentence} window {stored.window} does not cover it", write)
            return
