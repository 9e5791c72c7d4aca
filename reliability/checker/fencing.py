"""F: only the holder of the current token changes a claimed event."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reliability.checker.life import EventLife
from reliability.checker.loss import has_committed, may_have_succeeded
from reliability.checker.steps import Step, is_mark, step_of
from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    Claimed,
    HandlerStarted,
    ItemDeleted,
    LeaseRenewed,
    Outcome,
    Record,
    Recovered,
    ReplyLost,
    RequestFailed,
    Settled,
    SettleFailed,
    Skipped,
    Stored,
    TimeMoved,
    Written,
)

_BY_ANYBODY = (Step.CLAIM, Step.REDRIVE, Step.RESUME, Step.DISCARD, Step.ADVANCE)
"""The steps from a state in which no worker holds the event."""
_MARKS = (Outcome.COMPLETE, Outcome.FAIL)
_REPEATS_REFUSED = (Outcome.RELEASE, Outcome.HOLD)
"""A repeat of these that was refused counts as written, because an earlier try may have been applied."""


def check_fencing(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the changes of claimed events.

    By the backend's log:

    - Each change of an item is a transition of the state diagram.
    - An item is deleted only on purpose. It returns only by an emit that is repeated, or was still in flight.
    - Only a PENDING event gets a new token, so no claim and no emit overwrites a held event.
    - A handler that is recorded as done stays recorded.
    - If the writer is known, only the worker that wrote a token changes the event under this token. The exception is
      a recovery, after the lease has expired by the clock of the recovering worker. An event that is in no index is
      recovered by a worker that has taken its window. A worker whose handlers have succeeded for an event with an
      ordering key may mark it as COMPLETED at any time, and while no worker holds it, a worker that has had it may mark
      it as FAILED, and so may an operator who skips it. An event reaches the front of a queue by any worker.

    By the records of the workers:

    - A handler is called only under a claim of its worker that has no outcome yet.
    - After a claim is answered, outcomes and renewals of an earlier claim that begin later are refused.
    - Without a log of the backend: a later claim is refused while the lease runs, unless the event was settled or
      lost, or its holder died. No lease is recovered before the deadline that its holder knows, except after a move
      by hand.
    """
    for life in timeline:
        yield from _changed_by_others(life, timeline, limits)
        yield from _called_without_a_claim(life)
        yield from _accepted_late(life)
        if not life.has_log:
            yield from _recovered_early(life, timeline, limits)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="F", event_id=life.event_id, sentence=sentence, records=records)


# By the backend's log


def _changed_by_others(life: EventLife, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    holder, deleted_at, deletions = "", math.nan, 0
    for write in life.of(Written):
        before, after, step = write.before, write.after, step_of(write)
        if step is None:
            yield _violation(life, f"no transition makes {_text(after)} of {_text(before)}", write)
        elif step is Step.DELETE:
            deletions += 1
            if sum(asked.at <= write.at for asked in life.of(ItemDeleted)) < deletions:
                yield _violation(life, "its item was deleted, and no deletion is recorded", write)
            deleted_at = write.at
        elif step is Step.PUBLISH and deleted_at <= write.at and not life.may_be_stored_after(deleted_at, write.at):
            yield _violation(life, "it was stored again after it was deleted, and it had not been emitted again", write)
        elif before is not None and after is not None:
            # An event that is discarded while it waits leaves the names of its handlers in the queue.
            is_kept = set(before.handled_by) <= set(after.handled_by)
            if not is_kept and not (step is Step.DISCARD and before.waits):
                yield _violation(life, "it was forgotten which handlers are done", write)
            is_by_another = "" not in (holder, write.worker) and write.worker != holder
            if step not in _BY_ANYBODY and is_by_another and not _may_mark(life, write, timeline):
                yield from _written_by_another(life, write, before, timeline, limits)
        if step in (Step.PUBLISH, Step.CLAIM):
            holder = _holder_after(life, write)


def _holder_after(life: EventLife, write: Written) -> str:
    """Return who holds an event that was claimed or stored; of one that is stored again, the holder of its queue."""
    token = None if write.after is None else write.after.token
    if life.line is None or token is None:
        return write.worker
    return life.line.claimed_by.get(token, write.worker)


def _may_mark(life: EventLife, write: Written, timeline: Timeline) -> bool:
    """Tell whether a worker that does not hold an event with a key may mark it.

    A worker whose handlers have succeeded may mark the event as COMPLETED. While no worker holds the event, a worker
    that had claimed it may mark it as FAILED, and an operator may skip it if it blocks its key.
    """
    if not is_mark(write) or write.before is None or write.after is None:
        return False
    claimed = any(claim.worker == write.worker and began(claim) <= write.at for claim in life.of(Claimed))
    if write.after.status == "COMPLETED":
        return claimed and (bool(life.of(ItemDeleted)) or _has_succeeded(life, write, timeline))
    is_skipped = write.before.status == "FAILED" and any(skip.at <= write.at for skip in life.of(Skipped))
    return write.before.status != "PROCESSING" and (claimed or is_skipped)


def _has_succeeded(life: EventLife, write: Written, timeline: Timeline) -> bool:
    calls = [call for call in life.executions() if call.started.worker == write.worker]
    succeeded = any(may_have_succeeded(call, timeline, until=write.at) for call in calls)
    # If all handlers had succeeded in earlier attempts, it has called none.
    called = {start.handler for start in life.of(HandlerStarted) if start.at <= write.at}
    done = set() if write.before is None else set(write.before.handled_by)
    return succeeded or called <= done or has_committed(life, [call.started for call in calls])


def _written_by_another(
    life: EventLife, write: Written, before: Stored, timeline: Timeline, limits: Limits
) -> Iterator[Violation]:
    after = write.after
    is_reset = (
        after is not None
        and before.status == "PROCESSING"
        and (after.status, after.retry_count) in (("PENDING", before.retry_count + 1), ("FAILED", before.retry_count))
    )
    if not is_reset:
        yield _violation(life, f"{write.worker} changed it, and another worker held it", write)
        return
    if before.is_unlisted and not timeline.is_taken(before, write.at, by=write.worker):
        yield _violation(life, f"{write.worker} recovered it without taking its window", write)
    latest = write.at + timeline.offset(write.worker) + limits.tolerance
    if before.sort_key is not None and before.sort_key / 1000 > latest:
        early = before.sort_key / 1000 - write.at
        yield _violation(life, f"{write.worker} recovered it {early:.3f} s before its lease ran out", write)


def _text(stored: Stored | None) -> str:
    return "nothing" if stored is None else f"{stored.status} (token {stored.token}, {stored.retry_count} retries)"


# By the records of the workers


def _called_without_a_claim(life: EventLife) -> Iterator[Violation]:
    if life.of(ItemDeleted):
        return  # Of two claims with the same attempt, the records of the calls do not tell which one it was.
    claimed: set[tuple[str, str]] = set()
    settled: set[tuple[str, str]] = set()
    for record in life.records:
        if isinstance(record, Claimed):
            claimed.add((record.worker, record.token))
        elif isinstance(record, Settled) and not record.by_handler:
            settled.add((record.worker, record.token))
        elif isinstance(record, HandlerStarted):
            claim = record.worker, record.token
            if claim not in claimed or claim in settled:
                why = "without a claim" if claim not in claimed else "after the outcome of its claim was written"
                yield _violation(life, f"{record.worker} called handler {record.handler!r} {why}", record)


def _accepted_late(life: EventLife) -> Iterator[Violation]:
    claims = life.claims()
    written: list[Settled | LeaseRenewed] = list(life.of(LeaseRenewed))
    written += [settled for settled in life.of(Settled) if settled.outcome not in _REPEATS_REFUSED]
    for record in written:
        own = claims.get(record.token)
        for claim in claims.values():
            # The later claim began after the response to this claim, and was answered before the write began.
            if own is not None and own.at < began(claim) and claim.at < began(record) and not _is_marked(life, record):
                what = "an outcome" if isinstance(record, Settled) else "a renewal"
                sentence = f"{what} of {record.worker} was accepted after {claim.worker} had claimed it"
                yield _violation(life, sentence, own, claim, record)


def _is_marked(life: EventLife, record: Settled | LeaseRenewed) -> bool:
    """Tell whether an event with a key was marked as ended, and nobody knows by whom it was taken from its queue.

    That is so if a reply was lost or an error, or if the event was the last one: some backends delete a queue that is
    gone, too.
    """
    if life.line is None or not isinstance(record, Settled) or record.outcome not in _MARKS:
        return False
    unclear: list[ReplyLost | RequestFailed] = [*life.replies_lost, *life.line.failed_requests]
    is_lost = any(began(record) <= reply.at <= record.at for reply in unclear)
    return is_lost or life.line.may_be_gone(began(record), record.at)


def _recovered_early(life: EventLife, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    if life.of(TimeMoved):
        return
    for recovered in life.of(Recovered):
        claims = [claim for claim in life.of(Claimed) if claim.at <= began(recovered)]
        if not claims:
            continue
        last = max(claims, key=began)
        if _may_be_over(life, last, timeline):
            continue
        ends = life.lease_ends(last.token, before=began(recovered))
        latest = recovered.at + timeline.offset(recovered.worker) + limits.tolerance
        if ends > latest:
            sentence = f"it was recovered {ends - recovered.at:.3f} s before its lease ran out"
            yield _violation(life, sentence, last, recovered)
    for claim in life.of(Claimed):
        yield from _claimed_under_a_lease(life, claim, timeline, limits)


def _may_be_over(life: EventLife, claim: Claimed, timeline: Timeline) -> bool:
    """Return whether the holder may have settled: before it was killed, or with a lost response."""
    if any(isinstance(record, (Settled, SettleFailed)) and record.token == claim.token for record in life.records):
        return True
    lost = [*life.replies_lost, *timeline.replies_lost_of_unknown]
    return timeline.killed_at(claim.worker) < math.inf or any(reply.at >= began(claim) for reply in lost)


def _claimed_under_a_lease(life: EventLife, claim: Claimed, timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    earlier = [other for other in life.of(Claimed) if other.at < began(claim) and other.token != claim.token]
    if not earlier:
        return
    last = max(earlier, key=began)
    if _may_be_over(life, last, timeline):
        return
    # The recovering worker may have died before its record, so any worker's clock may have decided.
    latest = claim.at + timeline.greatest_offset + limits.tolerance
    ends = life.lease_ends(last.token, before=began(claim))
    if ends > latest:
        sentence = f"{claim.worker} claimed it {ends - claim.at:.3f} s before the lease of {last.worker} ran out"
        yield _violation(life, sentence, last, claim)
