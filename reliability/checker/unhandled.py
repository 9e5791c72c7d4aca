"""R, third part: an event without a handler is released without an attempt, and becomes FAILED only at its timeout."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.checker.life import EventLife
from reliability.checker.steps import Step, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.unlisted import was_entered
from reliability.checker.verdict import Limits, Violation
from reliability.history import HandlerStarted, Stored, Written


def check_unhandled(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check, by the backend's log, the events without a call of a handler.

    - A worker makes such an event FAILED only after its `unhandled_timeout`, counted from `unhandledSince`, or because
      leases expired. An event that blocks its ordering key, and is set aside, was FAILED before.
    - A further release keeps `unhandledSince`.

    Other checks make sure that such a release does not count an attempt, and that no event is COMPLETED without a
    handler.
    """
    for life in timeline:
        begins_at = float("-inf")
        for write in life.of(Written):
            step = step_of(write)
            if step is Step.REDRIVE:
                begins_at = write.at
            elif step is Step.FAIL:
                yield from _failed(life, write, timeline, limits, begins_at=begins_at)
            elif step is Step.RELEASE:
                yield from _kept(life, write)


def _violation(life: EventLife, sentence: str, *records: Written) -> Violation:
    return Violation(invariant="R", event_id=life.event_id, sentence=sentence, records=records)


def _failed(
    life: EventLife, write: Written, timeline: Timeline, limits: Limits, *, begins_at: float
) -> Iterator[Violation]:
    before = write.before
    if before is None or any(begins_at <= call.at <= write.at for call in life.of(HandlerStarted)):
        return
    if was_entered(write, timeline) or before.status == "FAILED":
        return
    latest = write.at + timeline.offset(write.worker) + limits.tolerance
    if before.sort_key is not None and before.sort_key / 1000 <= latest:
        return
    start = timeline.started.get(write.worker)
    if start is not None and _has_no_retry_left(life, before, start.max_retries, limits):
        return
    since = before.unhandled_since or _known_to_holder(life, write, before)
    if since is None:
        yield _violation(life, "it is FAILED, and no handler was called, and none was missing before", write)
        return
    timeout = None if start is None else start.unhandled_timeout
    # Another worker's clock may have set the time.
    waited = latest + timeline.greatest_offset - since / 1000
    if timeout is None or waited < timeout:
        sentence = f"it is FAILED after {waited:.1f} s without a handler, with an unhandled_timeout of {timeout} s"
        yield _violation(life, sentence, write)


def _known_to_holder(life: EventLife, write: Written, before: Stored) -> int | None:
    """Return since when an event had no handler before its lease ended, if its holder writes after the recovery."""
    held = [each.before for each in life.of(Written) if each.at < write.at and each.before is not None]
    own = [each for each in held if each.status == "PROCESSING" and each.token == before.token]
    return own[-1].unhandled_since if own and before.status == "PENDING" else None


def _has_no_retry_left(life: EventLife, before: Stored, max_retries: int, limits: Limits) -> bool:
    """Return whether the recoveries of expired leases have used up the retries, without a call of a handler.

    A recovery does not know the limits of handlers, and that of a queue knows none at all: the next worker that claims
    the event does. A redrive resets the retries, so calls of a handler before the redrive do not count.
    """
    default = max_retries if before.waits else None
    called = {start.handler for start in life.of(HandlerStarted)}
    own = [limits.rule_of(handler).max_retries for handler in called - set(before.handled_by)]
    allowed = [default if each is None else each for each in own] or [default]
    return all(each is not None and before.retry_count > each for each in allowed)


def _kept(life: EventLife, write: Written) -> Iterator[Violation]:
    before, after = write.before, write.after
    times = (before and before.unhandled_since, after and after.unhandled_since)
    if None not in times and times[0] != times[1]:
        yield _violation(life, "a give-back changed since when it has had no handler", write)
