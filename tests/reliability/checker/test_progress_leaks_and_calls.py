"""Invariants P, S and C: progress resumes after a fault, nothing leaks, and calls are bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reliability.checker.calls import SHORTEST_LIFE
from reliability.history import (
    CallsCounted,
    ClaimRefused,
    EmitAsked,
    EmitUnknown,
    FaultBegan,
    FaultEnded,
    Outcome,
    ResumeAsked,
    SettleFailed,
    SettleRefused,
    WorkerKilled,
    WorkerResumed,
    WorkerStopped,
    WorkerSuspended,
)
from tests.reliability.checker.histories import delivered
from tests.reliability.history_builder import LIMITS, HistoryBuilder, stored

# Progress


def waiting(*, until: float = 60.0) -> HistoryBuilder:
    """An event waits while the engine fails from 1 s to 20 s; the lease is 10 s, the poll interval 1 s."""
    story = HistoryBuilder().emit(at=0.2).add(FaultBegan(at=1.0, name="storm", kind="throttle"))
    return story.add(FaultEnded(at=20.0, name="storm", kind="throttle")).ends("PENDING", at=until, sort_key=0.2)


def test_progress_resumes_after_the_last_fault() -> None:
    assert waiting().broken() == "P"
    assert waiting().attempt(31.0, "succeeded", "complete").ends(at=60.0).broken() == ""
    late = waiting().attempt(40.0, "succeeded", "complete").ends(at=60.0)
    assert late.broken() == "P"


def test_nothing_has_to_progress_that_is_not_due_or_before_the_time_is_over_or_while_a_fault_lasts() -> None:
    assert waiting(until=31.0).broken() == ""
    delayed = HistoryBuilder().emit(at=0.2, due_at=55.0).add(FaultEnded(at=20.0, name="cut", kind="cut"))
    assert delayed.ends("PENDING", at=60.0, sort_key=55.0).broken() == ""
    assert waiting().add(FaultBegan(at=30.0, name="another", kind="cut")).broken() == ""


def test_progress_is_due_after_a_kill_and_a_resumption() -> None:
    story = HistoryBuilder().emit(at=0.2).add(WorkerKilled(at=20.0, worker="w2"))
    assert story.ends("PENDING", at=60.0, sort_key=0.2).broken() == "P"
    assert story.ends("PENDING", at=30.0, sort_key=0.2).broken() == ""
    suspended = HistoryBuilder().emit(at=0.2).add(WorkerSuspended(at=1.0, worker="w1"))
    assert suspended.ends("PENDING", at=60.0, sort_key=0.2).broken() == ""
    assert suspended.add(WorkerResumed(at=20.0, worker="w1")).broken() == "P"


def test_no_progress_without_a_worker() -> None:
    story = HistoryBuilder("w1").emit(at=0.2).add(WorkerKilled(at=1.0, worker="w1"))
    assert story.ends("PENDING", at=60.0, sort_key=0.2).broken() == ""
    story.add(*HistoryBuilder("w3").records)
    assert story.broken() == "P"


def test_one_event_must_not_starve_while_others_go_on() -> None:
    story = delivered()
    story.add(EmitAsked(at=0.5, event_id="other")).ends(at=60.0)
    for status, broken in (("PENDING", "P"), ("PROCESSING", "P"), ("FAILED", "")):
        story.final["other"] = stored(status, event_id="other", sort_key=5.0)
        assert story.broken() == broken
    story.final["other"] = stored("PENDING", event_id="other", sort_key=55.0)
    assert story.broken() == ""


# Leaks


def test_stopped_worker_leaves_nothing() -> None:
    assert delivered().add(WorkerStopped(at=5.0, worker="w1")).broken() == ""
    assert delivered().add(WorkerStopped(at=5.0, worker="w1", tasks=("poll",))).broken() == "S"
    assert delivered().add(WorkerStopped(at=5.0, worker="w1", connections=1)).broken() == "S"
    story = delivered()
    story.left = ("task x",)
    assert story.broken() == "S"


@pytest.mark.parametrize("end", [WorkerStopped, WorkerKilled])
def test_worker_does_nothing_after_its_end(end: type[WorkerStopped]) -> None:
    assert "S" in delivered().add(end(at=2.05, worker="w1")).broken()
    emitted = delivered().add(end(at=5.0, worker="w1"), EmitAsked(at=6.0, event_id="other", worker="w1"))
    assert emitted.broken() == ""


def test_stopped_worker_has_an_outcome_for_each_claim() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(2.2, "cancelled").add(WorkerStopped(at=5.0, worker="w1"))
    story.ends("PROCESSING", at=15.0)
    assert story.broken() == "S"
    # Neither a fault nor a settle that failed before is an outcome.
    faulty = [FaultBegan(at=4.0, name="cut", kind="cut"), FaultEnded(at=6.0, name="cut", kind="cut")]
    other = SettleFailed(at=1.9, event_id="z", worker="w1", token="t", outcome=Outcome.RETRY, error="no answer")
    assert story.add(*faulty, other).broken() == "S"
    # Outcomes that wait for their turn are given up when the writes before them get no answer.
    assert story.add(replace(other, at=4.9)).broken() == ""


def test_refused_or_unknown_outcomes_are_outcomes() -> None:
    story = HistoryBuilder().emit().claim(2.0).add(WorkerStopped(at=5.0, worker="w1")).ends("PENDING", sort_key=100.0)
    assert story.broken() == "S"
    refused = SettleRefused(at=4.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.RELEASE)
    assert story.add(refused).broken() == ""


# Bounded calls


def test_calls_are_bounded() -> None:
    few = [CallsCounted(at=99.0, operation="Query", calls=3900), CallsCounted(at=99.0, operation="PutItem", calls=8)]
    assert delivered().add(*few).broken() == ""
    assert delivered().add(*few, CallsCounted(at=99.0, operation="UpdateItem", calls=150)).broken() == "C"


def test_emit_that_takes_long_may_repeat_its_request() -> None:
    calls = CallsCounted(at=99.0, operation="PutItem", calls=int(LIMITS.calls_per_second * 200) + 60)
    assert "C" in delivered().add(calls).broken()
    slow = [EmitAsked(at=50.0, event_id="e", worker="w9"), EmitUnknown(at=65.0, event_id="e", error="?", worker="w9")]
    assert "C" not in delivered().add(*slow, calls).broken()


def test_calls_of_an_operator_count() -> None:
    calls = CallsCounted(at=99.0, operation="Query", calls=int(LIMITS.calls_per_second * 200) + 60)
    assert delivered().add(calls).broken() == "C"
    resumes = [ResumeAsked(at=50.0 + n, type="order.placed") for n in range(20)]
    assert delivered().add(calls, *resumes).broken() == ""


def test_soak_worker_that_ends_at_once_has_made_calls() -> None:
    def story(calls: int) -> HistoryBuilder:
        counted = CallsCounted(at=0.1, operation="Query", calls=calls)
        return HistoryBuilder("w1").add(WorkerKilled(at=0.1, worker="w1"), counted)

    most = int(LIMITS.calls_per_second * SHORTEST_LIFE)
    assert story(most).broken() == ""
    assert story(most + 1).broken() == "C"


def test_refused_claims_and_outcomes_are_bounded() -> None:
    def refusals(count: int) -> list[ClaimRefused]:
        return [ClaimRefused(at=2.0 + number / 1000, event_id="e", worker="w2") for number in range(count)]

    assert delivered().add(*refusals(2 * LIMITS.refused_claims)).broken() == ""
    assert delivered().add(*refusals(2 * LIMITS.refused_claims + 1)).broken() == "C"
    refused = [
        SettleRefused(at=3.0 + number, event_id="e", worker="w1", token="w1-1", outcome=Outcome.RETRY)
        for number in range(3)
    ]
    assert delivered().add(*refused[:2]).broken() == ""
    assert delivered().add(*refused).broken() == "C"
    # A handler's own transaction is refused first, and the outcome of its attempt after it.
    transaction = replace(refused[0], outcome=Outcome.COMPLETE, by_handler=True)
    assert delivered().add(*refused[:2], transaction).broken() == ""
