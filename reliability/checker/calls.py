"""C: the calls per event are bounded, even under faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from reliability.checker.life import ANSWERS, EventLife
from reliability.checker.timeline import Timeline
from reliability.checker.verdict import Limits, Violation
from reliability.history import (
    CallsCounted,
    Claimed,
    ClaimRefused,
    Discarded,
    EmitAsked,
    HoldAsked,
    LeaseRenewed,
    Record,
    Recovered,
    Redriven,
    ResumeAsked,
    SettleRefused,
    WindowWritten,
)

SHORTEST_LIFE: Final = 1.0
"""The minimum lifetime of a worker in seconds, because every worker starts with polls and an announcement."""
NUMBERS_PER_STEP: Final = 10
_STEPS = (EmitAsked, Claimed, LeaseRenewed, Recovered, Redriven, Discarded, HoldAsked, ResumeAsked)


def check_calls(timeline: Timeline, limits: Limits) -> Iterator[Violation]:
    """Check the number of requests, and of refused requests.

    - An event with n claims has at most (n + 1) * `refused_claims` refused claims, and at most n + 1 refused outcomes,
      without the transactions of handlers. The refused claims of an ordering key are those of its queue.
    - All requests together are at most `calls_per_step` for every emit, claim, renewal, recovery and repair, for every
      change of a window and every 10 numbers of a window that is taken, and `calls_per_second` for every second that
      a worker lives. This includes repeats after faults; an emit counts once more for each second that it takes,
      because it is repeated while DynamoDB does not answer.
    """
    claims: Counter[str] = Counter()
    for life in timeline:
        yield from _wasted(life, limits)
        if life.line is not None:
            claims[life.line.key] += len(life.of(Claimed))
    for key, line in timeline.lines.by_key.items():
        if len(line.refused_claims) > limits.refused_claims * (claims[key] + 1):
            sentence = f"{len(line.refused_claims)} claims of key {key!r} were refused, and {claims[key]} accepted"
            yield Violation(invariant="C", event_id=None, sentence=sentence, records=tuple(line.refused_claims))
    counted = timeline.of(CallsCounted)
    if not counted:
        return
    steps = sum(isinstance(record, _STEPS) for record in timeline.history)
    steps += sum(_steps_of(write) for writes in timeline.windows.values() for write in writes)
    steps += sum(int(_seconds_of_emits(life)) for life in timeline)
    lives = (min(timeline.ended_at(worker), timeline.final.at) - start.at for worker, start in timeline.started.items())
    seconds = sum(max(life, SHORTEST_LIFE) for life in lives)
    most = limits.calls_per_step * steps + limits.calls_per_second * seconds
    calls = sum(record.calls for record in counted)
    if calls > most:
        by_operation = ", ".join(f"{record.operation} {record.calls}" for record in counted)
        sentence = f"{calls} calls for {steps} steps in {seconds:.0f} s of workers' lives, at most {most:.0f}: "
        yield Violation(invariant="C", event_id=None, sentence=sentence + by_operation, records=tuple(counted))


def _seconds_of_emits(life: EventLife) -> float:
    """Return how long the emits of an event took that were answered, in seconds, of all of them together."""
    answers = [record for record in life.records if isinstance(record, ANSWERS)]
    asked = [emit.at for emit in life.of(EmitAsked)]
    return sum(max(answer.at - at, 0.0) for at, answer in zip(asked, answers, strict=False))


def _steps_of(write: WindowWritten) -> int:
    before, after = write.before, write.after
    is_taken = before is not None and after is not None and before.token != after.token
    return 1 + (before.end - before.start) // NUMBERS_PER_STEP if before is not None and is_taken else 1


def _wasted(life: EventLife, limits: Limits) -> Iterator[Violation]:
    claims = len(life.of(Claimed))
    refused_claims = life.of(ClaimRefused)
    refused_outcomes = [one for one in life.of(SettleRefused) if not one.by_handler]
    if len(refused_claims) > limits.refused_claims * (claims + 1):
        sentence = f"{len(refused_claims)} claims of it were refused, and {claims} accepted"
        yield _violation(life, sentence, *refused_claims)
    if len(refused_outcomes) > claims + 1:
        sentence = f"{len(refused_outcomes)} outcomes of it were refused, for {claims} claims"
        yield _violation(life, sentence, *refused_outcomes)


def _violation(life: EventLife, sentence: str, *records: Record) -> Violation:
    return Violation(invariant="C", event_id=life.event_id, sentence=sentence, records=records)
