"""R: retryCount and backoff are exact."""

from __future__ import annotations

from collections.abc import Iterator

from reliability.checker.life import EventLife
from reliability.checker.steps import Step, is_mark, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.unlisted import was_entered
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    HandlerEnded,
    HandlerStarted,
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


def check_retries(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check `retryCount`, and when an event becomes FAILED. `check_waits` checks the waiting times.

    - By the backend's log: a new item has no retries. Claims, renewals, releases, completions and failures do not
      change the count. A retry or a recovery sets it to one more than at the claim; if both happen, the count rises
      only once. A worker reports each such step, or the lease had expired.
    - By the records of the workers, without a log of the backend: the attempt of each claim, and the count at the end,
      equal the earlier retries and recoveries. Steps under the same token count once. A lost response, a failed settle
      or a kill may hide a step.
    - An event becomes FAILED only after 1 + max_retries attempts, unless a handler rejects it or has its own rules. It
      does not while a retry is left, and all handlers that were called have succeeded in the attempt; and by the
      backend's log, no recovery makes it FAILED while a retry is left.
      After these attempts, no retry is scheduled, unless a handler that has a retry left was not called, or cancelled.
    """
    for life in timeline:
        if life.of(Written):
            yield from _counted_by_the_engine(life, timeline, limits)
        else:
            yield from _counted_by_workers(life, timeline)
        yield from _ended_in_time(life, timeline, limits)
        yield from _recovered_as_failed(life, timeline)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="R", event_id=life.event_id, sentence=sentence, records=records)


# By the backend's log


def _counted_by_the_engine(life: EventLife, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    at_claim = 0
    for write in life.of(Written):
        before, after, step = write.before, write.after, step_of(write)
        if after is None or step is None or step is Step.REDRIVE:
            continue  # invariants A and F say what is wrong with that
        if step is Step.PUBLISH and after.retry_count != 0 and not _comes_back_to_its_queue(life, write):
            yield _violation(life, f"it was stored with {after.retry_count} retries", write)
        if step in (Step.PUBLISH, Step.CLAIM):
            at_claim = after.retry_count
        if before is not None:
            yield from _counted_by(life, write, before.retry_count, after.retry_count, step, at_claim=at_claim)
        if step is Step.RETRY and not _is_explained(life, write, timeline, limits):
            yield _violation(life, "a retry was counted, and neither a failure nor an expiry explains it", write)


def _comes_back_to_its_queue(life: EventLife, write: Written) -> bool:
    """Return whether an item was deleted before, and is stored again in its queue, which has kept the retries."""
    is_keyed = write.after is not None and write.after.key is not None
    return is_keyed and any(deleted.at <= write.at for deleted in life.of(ItemDeleted))


def _counted_by(
    life: EventLife, write: Written, before: int, after: int, step: Step, *, at_claim: int
) -> Iterator[Violation]:
    if step is Step.RETRY:
        if after != at_claim + 1:
            yield _violation(life, f"retryCount went from {before} to {after}, and had to be {at_claim + 1}", write)
    elif step is Step.DISCARD and write.before is not None and write.before.waits:
        pass  # it leaves its retries in the queue
    elif step is Step.FAIL and _is_late_mark(life, write, after):
        pass  # under a lease that was lost; the recovery has counted its attempt in the queue
    elif after != before:
        yield _violation(life, f"retryCount went from {before} to {after} with a {step.value}", write)
    elif step is Step.RELEASE:
        yield from _not_counted(life, write)


def _is_late_mark(life: EventLife, write: Written, retries: int) -> bool:
    """Return whether a worker marked an event of a key with the retries that it knew from one of its claims."""
    claims = [claim for claim in life.of(Claimed) if claim.worker == write.worker and began(claim) <= write.at]
    return is_mark(write) and any(claim.attempt - 1 == retries for claim in claims)


def _is_explained(life: EventLife, write: Written, timeline: Timeline, limits: Limits) -> bool:
    before, after = write.before, write.after
    if before is None or after is None:
        return False
    if was_entered(write, timeline):
        return True
    latest = write.at + timeline.offset(write.worker) + limits.tolerance
    if before.status == "PROCESSING" and before.sort_key is not None and before.sort_key / 1000 <= latest:
        return True
    if any(settled.outcome is Outcome.RELEASE for settled in _around(life, write)):
        return False
    ends = [end for end in life.of(HandlerEnded) if end.token == after.token]
    return any(end.result is not Result.SUCCEEDED for end in ends)


def _not_counted(life: EventLife, write: Written) -> Iterator[Violation]:
    for settled in _around(life, write):
        if settled.outcome is Outcome.RETRY:
            yield _violation(life, "an attempt failed, and was not counted", settled, write)


def _around(life: EventLife, write: Written) -> list[Settled]:
    token = None if write.after is None else write.after.token
    settles = [settled for settled in life.of(Settled) if settled.token == token]
    return [settled for settled in settles if began(settled) <= write.at and began(write) <= settled.at]


# By the records of the workers


def _counted_by_workers(life: EventLife, timeline: Timeline) -> Iterator[Violation]:
    for claim in life.of(Claimed):
        least, most = _retries(life, timeline, certain=began(claim), possible=claim.at)
        if not least <= claim.attempt - 1 <= most:
            sentence = f"a claim says attempt {claim.attempt}, and {_range(least + 1, most + 1)} is what was counted"
            yield _violation(life, sentence, claim)
    # An event that leaves its queue as COMPLETED leaves its retries there.
    if life.stored is not None and (life.line is None or life.stored.status != "COMPLETED"):
        end = timeline.final.at
        least, most = _retries(life, timeline, certain=end, possible=end)
        if not least <= life.stored.retry_count <= most:
            sentence = f"retryCount is {life.stored.retry_count} at the end, and {_range(least, most)} were counted"
            yield _violation(life, sentence, *life.of(Settled), *life.of(Recovered))


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _retries(life: EventLife, timeline: Timeline, *, certain: float, possible: float) -> tuple[int, int]:
    """Count the retries: the minimum written before `certain`, and the maximum written by `possible`."""
    redrives = [redrive.at for redrive in life.of(Redriven) if redrive.at <= possible]
    retries = [settled for settled in life.of(Settled) if settled.outcome is Outcome.RETRY]
    resets = [recovered for recovered in life.of(Recovered) if not recovered.failed]
    sure_retries = len({settled.token for settled in retries if settled.at < certain})
    sure_resets = sum(reset.at < certain for reset in resets)
    # A late retry writes the same count as the recovery of its claim. A redrive resets the count, or does nothing.
    least = 0 if redrives else max(sure_retries, sure_resets)
    hidden = len(timeline.replies_lost_of_unknown) + len(timeline.kills_between(float("-inf"), possible))
    hidden += sum(reply.at <= possible for reply in life.replies_lost)
    hidden += sum(failure.at <= possible for failure in life.of(SettleFailed))
    most = sum(began(settled) <= possible for settled in retries) + sum(began(reset) <= possible for reset in resets)
    return least, most + hidden


# The end


def _ended_in_time(life: EventLife, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    for settled in life.of(Settled):
        start = timeline.started.get(settled.worker)
        if start is None or settled.outcome not in (Outcome.RETRY, Outcome.FAIL):
            continue
        failed = [end for end in life.of(HandlerEnded) if end.token == settled.token and end.result is Result.FAILED]
        if any(limits.rule_of(end.handler).judges or end.final for end in failed):
            continue
        allowed = [limits.rule_of(end.handler).max_retries for end in failed]
        most = max((start.max_retries if own is None else own for own in allowed), default=start.max_retries)
        is_beyond = settled.outcome is Outcome.RETRY and settled.attempt > most
        if is_beyond and not another_has_a_retry(life, settled, default=start.max_retries, limits=limits):
            yield _violation(life, f"attempt {settled.attempt} was to be retried, beyond {most} retries", settled)
        if settled.outcome is Outcome.FAIL and not failed:
            yield from _failed_without_a_failure(life, settled, default=start.max_retries, limits=limits)
        if settled.outcome is Outcome.FAIL and failed and settled.attempt <= most:
            yield _violation(life, f"it became FAILED at attempt {settled.attempt}, with {most} retries", settled)


def _failed_without_a_failure(
    life: EventLife, settled: Settled, *, default: int, limits: Limits
) -> Iterator[Violation]:
    if settled.by_handler:
        return
    ends = [end for end in life.of(HandlerEnded) if end.token == settled.token and end.at <= settled.at]
    succeeded = {end.handler for end in ends if end.result is Result.SUCCEEDED}
    called = {start.handler for start in life.of(HandlerStarted) if start.at <= settled.at}
    own = [rule.max_retries for rule in limits.handlers.values() if rule.max_retries is not None]
    if called and called <= succeeded and settled.attempt <= min([default, *own]):
        yield _violation(life, "it became FAILED, and all its handlers had succeeded", settled)


def _recovered_as_failed(life: EventLife, timeline: Timeline) -> Iterator[Violation]:
    for recovered in life.of(Recovered):
        start = timeline.started.get(recovered.worker)
        writes = [write for write in life.of(Written) if _is_failure_of(write, recovered)]
        if recovered.failed and start is not None and writes and writes[-1].before is not None:
            retries = writes[-1].before.retry_count
            if retries < start.max_retries:
                left = start.max_retries - retries
                yield _violation(life, f"a recovery made it FAILED, with {left} retries left", recovered, writes[-1])


def _is_failure_of(write: Written, recovered: Recovered) -> bool:
    is_failure = write.after is not None and write.after.status == "FAILED"
    return is_failure and write.worker == recovered.worker and began(recovered) <= write.at <= recovered.at


def another_has_a_retry(life: EventLife, settled: Settled, *, default: int, limits: Limits) -> bool:
    """Return whether a handler that has a retry left did not end in an attempt: it got no permit, or was cancelled."""
    ends = [end for end in life.of(HandlerEnded) if end.at <= settled.at]
    # A success of an attempt whose outcome was not written is not known, unless a transaction has recorded it.
    settles = [other for other in life.of(Settled) if other.at <= settled.at]
    written = {other.token for other in settles if other.outcome is not Outcome.HANDLER_DONE}
    items = [write.after for write in life.of(Written) if write.after is not None and write.at <= settled.at]
    recorded = {handler for item in items for handler in item.handled_by}
    known = [end for end in ends if end.result is Result.SUCCEEDED and end.token in written]
    ended = [end for end in ends if end.token == settled.token and end.result in (Result.SUCCEEDED, Result.FAILED)]
    done = {end.handler for end in [*known, *ended]} | recorded
    for handler in {start.handler for start in life.of(HandlerStarted)} - done:
        own = limits.rule_of(handler).max_retries
        if settled.attempt <= (default if own is None else own):
            return True
    return False
