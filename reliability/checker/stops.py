"""S: nothing leaks. After a stop, the library has no tasks, connections or pending settles."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reliability.checker.timeline import Timeline
from reliability.checker.times import began
from reliability.checker.verdict import Violation
from reliability.history import (
    Claimed,
    ErrorReported,
    FaultBegan,
    FaultEnded,
    HandlerEnded,
    HandlerStarted,
    LeaseLost,
    LeaseRenewed,
    Record,
    Recovered,
    Result,
    Settled,
    SettleFailed,
    SettleRefused,
    WorkerKilled,
    WorkerStopped,
    Written,
)

_WORK = (Claimed, HandlerStarted, HandlerEnded, LeaseRenewed, Settled, SettleRefused, SettleFailed, Recovered)
_ENDS = (Settled, SettleRefused, SettleFailed, LeaseLost)


def check_stops(timeline: Timeline) -> Iterator[Violation]:
    """Check what remains of stopped workers.

    - A stopped worker has no tasks and no connections, and the final state has no leftovers.
    - After its stop has returned, or after it was killed, a worker does nothing more: no claim, no call or end of a
      handler, no outcome, no renewal, no recovery. After a stop, three activities may continue: emits, which release
      their claims; abandoned handlers; and the transaction that a cancelled handler had begun to commit.
    - Every claim of a stopped worker has an outcome: written, refused or unknown. Exceptions are a claim of a
      window that was lost: its loss is reported once for all claims; and a claim whose worker could not write another
      outcome after it: at the end of its stop, it gives up the outcomes that wait for their turn.
    """
    for stop in timeline.of(WorkerStopped):
        if stop.tasks or stop.connections:
            left = f"{', '.join(stop.tasks) or 'no task'}, {stop.connections} connections"
            yield _violation(f"{stop.worker} has left behind: {left}", stop)
    for left in timeline.final.left:
        yield _violation(f"{left} is left at the end")
    started = {start.token for start in timeline.of(HandlerStarted)}
    may_go_on = {claim.token for claim in timeline.of(Claimed) if claim.on_emit and claim.token not in started}
    may_go_on |= {end.token for end in timeline.of(HandlerEnded) if end.result is Result.LEFT_BEHIND}
    for record in timeline.history:
        if isinstance(record, _WORK) and record.at > timeline.ended_at(record.worker):
            end = timeline.ended[record.worker]
            if isinstance(end, WorkerStopped) and (_is_late_answer(record, end) or _token_of(record) in may_go_on):
                continue
            how = "killed" if isinstance(end, WorkerKilled) else "stopped"
            yield Violation(
                invariant="S",
                event_id=record.event_id,
                sentence=f"{record.worker} goes on after it was {how}",
                records=(end, record),
            )
    yield from _not_settled(timeline)


def _is_late_answer(record: Record, end: WorkerStopped) -> bool:
    return isinstance(record, (Settled, SettleRefused, SettleFailed)) and began(record) <= end.at


def _token_of(record: Record) -> str | None:
    token: str | None = getattr(record, "token", None)
    return token


def _violation(sentence: str, *records: Record) -> Violation:
    return Violation(invariant="S", event_id=None, sentence=sentence, records=records)


def _not_settled(timeline: Timeline) -> Iterator[Violation]:
    lost = [error for error in timeline.of(ErrorReported) if error.kind == "WindowLostError"]
    unsure = timeline.of(SettleFailed)
    for life in timeline:
        ended = {record.token for record in life.records if isinstance(record, _ENDS)}
        unlisted = {write.after.token for write in life.of(Written) if write.after and write.after.is_unlisted}
        for claim in life.of(Claimed):
            end = timeline.ended.get(claim.worker)
            if claim.token in ended or not isinstance(end, WorkerStopped):
                continue
            if claim.token in unlisted and any(one.worker == claim.worker and one.at >= claim.at for one in lost):
                continue
            if any(one.worker == claim.worker and claim.at <= one.at <= end.at for one in unsure):
                continue
            yield Violation(
                invariant="S",
                event_id=life.event_id,
                sentence=f"{claim.worker} has stopped without an outcome of its claim",
                records=(claim, end),
            )


def spans_of_faults(timeline: Timeline) -> list[tuple[float, float]]:
    """List the start and the end of each fault; the end is infinity if the fault never ended."""
    began: dict[str, float] = {}
    spans: list[tuple[float, float]] = []
    for record in timeline.history:
        if isinstance(record, FaultBegan):
            began[record.name] = record.at
        elif isinstance(record, FaultEnded):
            spans.append((began.pop(record.name, record.at), record.at))
    return spans + [(start, math.inf) for start in began.values()]
