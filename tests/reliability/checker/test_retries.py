"""Invariant R: retry counts and backoff are exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reliability.checker import HandlerRule, Limits
from reliability.history import (
    EmitAsked,
    ItemDeleted,
    Outcome,
    Record,
    Recovered,
    ReplyLost,
    RequestFailed,
    SettleFailed,
    WorkerKilled,
)
from tests.reliability.checker.histories import HELD, HELD_BY_W1, PENDING, held, recovered, retried
from tests.reliability.history_builder import HistoryBuilder, stored


def test_attempt_must_follow_from_the_retries() -> None:
    skipped = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=1.0)
    assert "R" in skipped.attempt(3.6, "succeeded", "complete", number=3).ends(retries=1).broken()
    assert "R" in HistoryBuilder().emit().attempt(2.0, "succeeded", "complete", number=2).ends().broken()


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retry_count_must_be_exact_at_the_end(retries: int) -> None:
    assert retried().ends(retries=retries).broken() == "R"


def test_recovery_counts_and_a_release_does_not() -> None:
    assert recovered().ends(retries=0).broken() == "R"
    released = HistoryBuilder().emit().claim(2.0).settle(2.5, "release").attempt(3.0, "succeeded", "complete", "w2")
    assert released.ends().broken() == ""
    assert released.ends(retries=1).broken() == "R"


def test_recovery_and_late_retry_of_one_claim_count_once_or_twice_only_where_two_claims_may_be_meant() -> None:
    story = (
        HistoryBuilder().emit().claim(2.0).start(2.1).recover(12.5).end(12.6, "failed").settle(12.8, "retry", delay=1.0)
    )
    assert story.attempt(14.0, "succeeded", "complete", "w2", number=2).ends(retries=1).broken() == ""
    assert story.ends(retries=0).broken() == "R"
    assert story.ends(retries=3).broken() == "R"


@pytest.mark.parametrize(
    "hiding",
    [
        ReplyLost(at=12.0, operation="UpdateItem", event_ids=("e",)),
        ReplyLost(at=12.0, operation="UpdateItem", event_ids=()),
        WorkerKilled(at=12.9, worker="w3"),
        SettleFailed(at=3.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.RETRY, error="?", began_at=2.9),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_may_hide_a_recovery_is_allowed_for(hiding: object) -> None:
    story = HistoryBuilder("w1", "w2", "w3").emit().claim(2.0)
    story.attempt(13.0, "succeeded", "complete", "w2", number=2).ends(retries=1)
    assert story.broken() == "R"
    assert story.add(hiding).broken() == ""  # type: ignore[arg-type]  # records of any kind


def test_retry_waits_as_long_as_the_backoff_says() -> None:
    wrong = (
        HistoryBuilder()
        .emit()
        .attempt(2.0, "failed", "retry", delay=1.5)
        .attempt(4.6, "succeeded", "complete", number=2)
    )
    assert wrong.ends(retries=1).broken() == "R"
    own = Limits(handlers={"h": HandlerRule(judges=True)}, longest_backoff=2.0)
    assert wrong.broken(own) == ""


def test_retry_later_is_obeyed() -> None:
    def story(delay: float) -> HistoryBuilder:
        asking = HistoryBuilder().emit().claim(2.0).start(2.1).end(2.2, "failed", retry_in=5.0)
        asking.settle(2.4, "retry", delay=delay)
        return asking.attempt(7.6, "succeeded", "complete", number=2).ends(retries=1)

    assert story(5.0).broken() == ""
    assert story(1.0).broken() == "R"


def test_longest_delay_of_the_handlers_with_retries_left_counts() -> None:
    def story(delay: float) -> HistoryBuilder:
        two = HistoryBuilder().emit().claim(2.0).start(2.1).start(2.1, handler="other").end(2.2, "failed")
        two.end(2.3, "failed", handler="other", retry_in=9.0).settle(2.4, "retry", delay=delay)
        return two.ends("PENDING", retries=1)

    assert story(9.0).broken() == ""
    assert story(1.0).broken() == "R"
    exhausted = Limits(handlers={"other": HandlerRule(max_retries=0)}, longest_backoff=2.0)
    assert story(1.0).broken(exhausted) == ""


def test_retry_must_not_come_early() -> None:
    early = (
        HistoryBuilder()
        .emit()
        .attempt(2.0, "failed", "retry", delay=1.0)
        .attempt(3.2, "succeeded", "complete", number=2)
    )
    assert early.ends(retries=1).broken() == "R"
    ahead = HistoryBuilder(clock_offset=0.1).emit().attempt(2.0, "failed", "retry", delay=1.0)
    assert ahead.attempt(3.2, "succeeded", "complete", number=2).ends(retries=1).broken() == ""


def test_event_that_was_deleted_and_stored_again_need_not_wait() -> None:
    story = HistoryBuilder().emit().claim(2.0).settle(2.4, "release", delay=20.0)
    story.attempt(6.0, "succeeded", "complete", "w2").ends()
    assert "too early" in str(story.violations())
    story.add(ItemDeleted(at=3.0, event_id="e"), EmitAsked(at=3.1, event_id="e"))
    assert "too early" not in str(story.violations())


def test_release_with_a_delay_waits_as_well() -> None:
    def story(at: float) -> HistoryBuilder:
        released = HistoryBuilder().emit().claim(2.0).settle(2.5, "release", delay=3.0)
        return released.attempt(at, "succeeded", "complete", "w2").ends()

    assert story(5.6).broken() == ""
    assert story(4.0).broken() == "R"


def test_delayed_event_must_not_be_claimed_early() -> None:
    assert HistoryBuilder().emit(due_at=1.9).attempt(2.0, "succeeded", "complete").ends().broken() == ""
    assert HistoryBuilder().emit(due_at=2.1).attempt(2.0, "succeeded", "complete").ends().broken() == "R"


def test_event_fails_only_after_all_attempts() -> None:
    assert HistoryBuilder().emit().attempt(2.0, "failed", "fail").ends("FAILED").broken() == "R"
    rejected = HistoryBuilder().emit().claim(2.0).start(2.1).end(2.2, "failed", final=True).settle(2.4, "fail")
    assert rejected.ends("FAILED").broken() == ""
    once = Limits(handlers={"h": HandlerRule(max_retries=0)}, longest_backoff=2.0)
    assert HistoryBuilder().emit().attempt(2.0, "failed", "fail").ends("FAILED").broken(once) == ""


def test_handler_without_a_permit_gets_its_turn_after_the_last_attempt_of_another() -> None:
    limits = Limits(
        handlers={"h": HandlerRule(max_retries=0), "limited": HandlerRule(max_retries=1)}, longest_backoff=2.0
    )

    def story(delay: float, *, later: str = "limited") -> HistoryBuilder:
        first = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=delay)
        second = first.claim(3.0, attempt=2).start(3.1, attempt=2, handler=later).end(3.2, attempt=2, handler=later)
        return second.settle(3.4, "fail", attempt=2).ends("FAILED", retries=1)

    assert story(0.0).broken(limits) == ""
    assert story(1.0).broken(limits) == "R"
    assert "R" in story(0.0, later="h").broken(limits)


@pytest.mark.parametrize(
    ("end", "broken"), [("cancelled", ""), ("left behind", ""), ("succeeded", "DR"), ("failed", "")]
)
def test_handler_that_was_cancelled_gets_another_turn_after_the_last_attempt_of_another(end: str, broken: str) -> None:
    limits = Limits(
        handlers={"h": HandlerRule(max_retries=0), "other": HandlerRule(max_retries=1)}, longest_backoff=2.0
    )
    story = HistoryBuilder().emit().claim(2.0).start(2.1).start(2.1, handler="other")
    story.end(2.2, "failed").end(2.2, end, handler="other").settle(2.4, "retry", delay=1.0 if end == "failed" else 0.0)
    second = story.claim(4.0, attempt=2).start(4.1, attempt=2, handler="other").end(4.2, attempt=2, handler="other")
    assert second.settle(4.4, "fail", attempt=2).ends("FAILED", retries=1).broken(limits) == broken


@pytest.mark.parametrize("outcome", ["retry", "handler done", None])
def test_handler_whose_success_was_not_written_is_called_again(outcome: str | None) -> None:
    limits = Limits(
        handlers={"h": HandlerRule(max_retries=1), "limited": HandlerRule(max_retries=3)}, longest_backoff=2.0
    )
    story = HistoryBuilder().emit().claim(2.0).start(2.1).start(2.1, handler="limited").end(2.2, "failed")
    story.end(2.2, handler="limited")
    if outcome != "retry":
        if outcome is not None:
            # A transaction has recorded a third handler, and nothing of this one.
            story.settle(2.4, outcome, by_handler=True)
        story.recover(20.0)
    else:
        story.settle(2.4, outcome, delay=1.0)
    story.attempt(20.5, "failed", "retry", number=2, delay=0.0)
    story.claim(21.5, attempt=3).start(21.6, attempt=3, handler="limited").end(21.7, attempt=3, handler="limited")
    broken = story.settle(21.9, "fail", attempt=3).ends("FAILED", retries=2).violations(limits)
    assert any("beyond 1 retries" in str(each) for each in broken) is (outcome == "retry")


def test_event_is_not_retried_beyond_all_attempts() -> None:
    story = (
        HistoryBuilder()
        .emit()
        .attempt(2.0, "failed", "retry", delay=1.0)
        .attempt(3.6, "failed", "retry", number=2, delay=2.0)
    )
    story.attempt(6.2, "failed", "retry", number=3, delay=4.0)
    assert story.ends("PENDING", retries=3).broken() == "R"


@pytest.mark.parametrize(
    ("after", "broken"),
    [
        (stored("PENDING", retries=1, sort_key=12.5, token="t1"), ""),
        (stored("PENDING", retries=2, sort_key=12.5, token="t1"), "R"),
        (stored("COMPLETED", retries=1, token="t1"), "R"),
        (stored("FAILED", retries=1, sort_key=12.5, token="t1"), "R"),
        (stored("PROCESSING", retries=1, sort_key=22.0, token="t1"), "R"),
    ],
)
def test_written_items_show_what_is_counted(after: object, broken: str) -> None:
    assert held().write(12.5, HELD, after, "w1").broken() == broken  # type: ignore[arg-type]  # records of any kind


def test_written_items_show_retries_that_a_new_item_or_a_claim_adds() -> None:
    assert HistoryBuilder().write(1.0, None, stored("PENDING", retries=1, sort_key=1.0)).broken() == "R"
    counted = stored("PROCESSING", retries=1, sort_key=12.0, token="t1")
    assert HistoryBuilder().write(1.0, None, PENDING).write(2.0, PENDING, counted).broken() == "R"


def test_written_items_show_that_recovery_and_late_retry_of_one_claim_count_once() -> None:
    reset = stored("PENDING", retries=1, sort_key=12.5, token="t1")
    twice = stored("PENDING", retries=2, sort_key=14.0, token="t1")
    again = stored("PENDING", retries=1, sort_key=14.0, token="t1")
    assert held().write(12.5, HELD, reset, "w2").write(13.0, reset, again, "w1").broken() == ""
    assert held().write(12.5, HELD, reset, "w2").write(13.0, reset, twice, "w1").broken() == "R"


def written_history(outcome: str, retries: int, result: str = "failed") -> HistoryBuilder:
    story = HistoryBuilder().write(1.0, None, PENDING).write(2.0, PENDING, HELD_BY_W1)
    after = stored("PENDING", retries=retries, sort_key=4.0, token="w1-1")
    return (
        story.attempt(2.1, result, outcome, delay=1.0).write(2.45, HELD_BY_W1, after).ends("PENDING", retries=retries)
    )


def test_written_items_show_whether_the_count_is_what_happened() -> None:
    assert written_history("retry", 1).broken() == ""
    assert written_history("retry", 0).broken() == "R"
    assert written_history("release", 0).broken() == ""
    assert written_history("release", 1).broken() == "R"
    assert written_history("retry", 1, "succeeded").broken() == "R"


def test_event_that_was_held_after_its_last_attempt_may_fail_without_a_call() -> None:
    claimed = stored("PROCESSING", sort_key=50.0, token="w1-1")
    reset, again = stored("PENDING", retries=3, sort_key=3.0, token="w1-1"), stored("HELD", retries=3, sort_key=3.0)
    due, last = stored("PENDING", retries=3, sort_key=3.0), stored("PROCESSING", retries=3, sort_key=60.0, token="w2-4")
    failed = stored("FAILED", retries=3, sort_key=31.0, token="w2-4")

    def story(*, called: bool) -> HistoryBuilder:
        begun = HistoryBuilder().emit().write(1.0, None, stored("PENDING", sort_key=0.5)).claim(2.0)
        begun.write(1.95, stored("PENDING", sort_key=0.5), claimed, "w1")
        if called:
            begun.start(2.1).end(2.2, "failed")
        held = stored("PROCESSING", retries=3, sort_key=50.0, token="w2-2")
        begun.write(5.0, reset, held, "w2").write(5.1, held, again, "w2").write(20.0, again, due)
        return begun.write(30.0, due, last, "w2").write(31.0, last, failed, "w2")

    told = "no handler was called"
    assert any(told in violation.sentence for violation in story(called=False).violations())
    assert not any(told in violation.sentence for violation in story(called=True).violations())


def test_release_that_was_repeated_until_the_lease_was_recovered_need_not_wait() -> None:
    def story(*records: Record, outcome: str = "release") -> str:
        released = HistoryBuilder().emit().claim(2.0).settle(13.0, outcome, delay=20.0, began_at=11.0)
        released.attempt(15.0, "succeeded", "complete", "w2", number=2).ends(retries=1)
        released.add(*records)
        return str(released.violations())

    failed = RequestFailed(at=11.5, operation="update_item", event_ids=("e",), worker="w1")
    reset = Recovered(at=12.8, event_id="e", worker="w2", failed=False, began_at=12.5)
    assert "too early" not in story(failed, reset)
    assert "too early" in story(reset)
    assert "too early" in story(failed)
    assert "too early" in story(replace(failed, worker="w2"), reset)
    assert "too early" in story(failed, replace(reset, at=14.0, began_at=13.5))
    assert "too early" in story(failed, replace(reset, failed=True))
    assert "too early" in story(failed, reset, outcome="retry")
