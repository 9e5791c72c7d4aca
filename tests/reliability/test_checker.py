"""The checker: every way to break an invariant is seen, and what comes near to it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reliability.checker import HandlerRule, Limits, report
from reliability.checker.calls import SHORTEST_LIFE
from reliability.history import (
    CallsCounted,
    ClaimRefused,
    EmitAsked,
    EmitRefused,
    EmitUnknown,
    FaultBegan,
    FaultEnded,
    ItemDeleted,
    LeaseLost,
    Outcome,
    Recovered,
    Redriven,
    ReplyLost,
    SettleFailed,
    SettleRefused,
    StoringRequest,
    TimeMoved,
    WorkerKilled,
    WorkerResumed,
    WorkerStopped,
    WorkerSuspended,
)
from tests.reliability.history_builder import LIMITS, HistoryBuilder, stored


def delivered() -> HistoryBuilder:
    """Emitted, claimed, handled and completed."""
    return HistoryBuilder().emit().attempt(2.0, "succeeded", "complete").ends()


def recovered() -> HistoryBuilder:
    """The first worker began and is not heard of again; the second one recovers the event, and completes it."""
    story = HistoryBuilder().emit().claim(2.0).start(2.1)
    return story.recover(12.5).attempt(13.0, "succeeded", "complete", "w2", number=2).ends(retries=1)


def retried() -> HistoryBuilder:
    """Two attempts fail, and the third succeeds, after 1 s and 2 s."""
    story = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=1.0)
    story.attempt(3.6, "failed", "retry", number=2, delay=2.0)
    return story.attempt(6.2, "succeeded", "complete", number=3).ends(retries=2)


def dead() -> HistoryBuilder:
    """All three attempts fail."""
    story = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=1.0)
    story.attempt(3.6, "failed", "retry", number=2, delay=2.0)
    return story.attempt(6.2, "failed", "fail", number=3).ends("FAILED", retries=2)


@pytest.mark.parametrize("story", [delivered, recovered, retried, dead], ids=lambda story: story.__name__)
def test_usual_histories_break_nothing(story: object) -> None:
    assert callable(story)
    assert story().violations() == []


# L


def test_acknowledged_event_that_is_not_stored_is_lost() -> None:
    story = HistoryBuilder().emit()
    assert story.broken() == "L"
    assert story.add(ItemDeleted(at=3.0, event_id="e")).broken() == ""


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "FAILED"])
def test_acknowledged_event_must_be_in_the_index_until_it_is_completed(status: str) -> None:
    assert "L" in HistoryBuilder().emit().ends(status, indexed=False).broken()
    assert HistoryBuilder().emit().ends(status).broken() == ""


def test_status_must_be_one_of_the_four() -> None:
    assert HistoryBuilder().emit().ends("DONE").broken() == "L"


def test_completed_event_must_not_stay_in_the_index() -> None:
    assert delivered().ends(indexed=True).broken() == "L"


def test_completed_event_must_have_been_handled() -> None:
    assert HistoryBuilder().emit().claim(2.0).settle(3.0).ends().broken() == "L"
    assert HistoryBuilder().emit().claim(2.0).start(2.1).end(2.5, "failed").ends().broken() == "L"
    assert "L" in HistoryBuilder().emit().claim(2.0).start(2.1).end(2.5, "failed").settle(3.0).ends().broken()


def test_handler_of_a_killed_worker_may_have_succeeded_unseen() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).ends()
    assert story.broken() == "L"
    assert story.add(WorkerKilled(at=2.2, worker="w1")).broken() == ""


def test_event_may_be_completed_by_a_transaction_of_which_its_handler_got_no_answer() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(3.1, "failed").ends()
    assert "L" in story.broken()
    failed = SettleFailed(at=3.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.COMPLETE, error="?")
    assert "L" in story.add(failed).broken()
    assert "L" in story.add(replace(failed, by_handler=True, maybe_applied=False)).broken()
    assert "L" in story.add(replace(failed, by_handler=True, token="foreign")).broken()
    assert story.add(replace(failed, by_handler=True)).broken() == ""


def test_event_may_be_completed_by_a_transaction_that_its_handler_was_cancelled_in() -> None:
    def story(**facts: bool) -> HistoryBuilder:
        cut = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled")
        return cut.settle(5.2, began_at=2.2, **facts).ends()

    assert story().broken() == "L"
    assert story(by_handler=True).broken() == ""


def test_one_failed_handler_of_two_must_not_complete() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).start(2.1, handler="other").end(2.3)
    story.end(2.4, "failed", handler="other")
    assert story.settle(2.6).ends().broken() == "L"


def test_refused_emit_must_not_be_stored() -> None:
    asked, refused = EmitAsked(at=1.0, event_id="e"), EmitRefused(at=1.1, event_id="e", error="UnavailableError: no")
    assert HistoryBuilder().add(asked, refused).ends("PENDING").broken() == "L"
    assert HistoryBuilder().add(asked, refused).broken() == ""
    duplicate = EmitRefused(at=1.1, event_id="e", error="DuplicateEventError: it is there")
    assert HistoryBuilder().add(asked, duplicate).ends("PENDING").broken() == ""
    unknown = EmitUnknown(at=1.1, event_id="e", error="UnavailableError: perhaps")
    assert HistoryBuilder().add(asked, unknown).ends("PENDING").broken() == ""
    assert HistoryBuilder().add(asked, unknown).broken() == ""


# A


def test_completed_event_must_not_be_claimed_again() -> None:
    story = delivered().claim(3.0, "w2", attempt=2).start(3.1, "w2", attempt=2).end(3.2, "succeeded", "w2", attempt=2)
    assert "A" in story.settle(3.4, "complete", "w2", attempt=2).broken()


def test_event_that_was_deleted_may_be_emitted_and_handled_again() -> None:
    story = delivered().emit(6.0).attempt(8.0, "succeeded", "complete", "w2", number=1)
    assert story.broken() == "AD"
    assert story.add(ItemDeleted(at=5.0, event_id="e")).broken() == ""
    story = delivered().emit(6.0).ends("PENDING")
    assert story.broken() == "AD"
    assert story.add(ItemDeleted(at=5.0, event_id="e")).broken() == ""


def test_event_that_was_deleted_does_not_come_back_by_itself() -> None:
    story = delivered().add(ItemDeleted(at=5.0, event_id="e"))
    assert story.attempt(8.0, "succeeded", "complete", "w2", number=1).broken() == "AD"
    late = ReplyLost(at=0.55, operation="put_item", event_ids=("e",), applied=False)
    assert story.add(late).broken() == ""
    story = held().add(ItemDeleted(at=4.9, event_id="e")).write(5.0, HELD, None)
    assert story.write(6.0, None, stored("PENDING", sort_key=0.5)).broken() == "F"
    assert story.emit(5.5).broken() == ""


def test_event_is_stored_by_one_emit_only() -> None:
    story = delivered().emit(0.55)
    assert story.broken() == "D"
    unclear = request(0.6, 0.9, error="ConnectionClosedError", worker="w9")
    assert delivered().emit(0.55).add(unclear).broken() == ""
    assert delivered().emit(0.55).add(request(0.6, 0.9, error="ConditionalCheckFailedException")).broken() == "D"


def request(began_at: float, at: float, *event_ids: str, error: str = "", worker: str = "") -> StoringRequest:
    ids = event_ids or ("e",)
    return StoringRequest(at=at, began_at=began_at, operation="put_item", event_ids=ids, worker=worker, error=error)


def test_emit_waits_for_no_request_of_another() -> None:
    others = request(0.1, 0.9, "other")
    assert delivered().add(request(0.51, 0.58)).broken() == ""
    story = HistoryBuilder().emit(0.5).add(others, request(0.57, 0.6)).attempt(1.0, "succeeded", "complete").ends()
    (violation,) = story.violations()
    assert "waited 0.070 s before it was sent, while requests of ['other'] were in flight" in str(violation)
    story = HistoryBuilder().emit(0.5).add(others, request(0.5, 0.54)).attempt(1.0, "succeeded", "complete").ends()
    (violation,) = story.violations()
    assert "waited 0.060 s after its own answer" in str(violation)
    suspended = WorkerSuspended(at=0.55, worker="")
    assert story.add(suspended).broken() == ""


def test_emit_may_wait_for_another_of_the_same_event() -> None:
    story = HistoryBuilder().add(EmitAsked(at=0.1, event_id="e"), request(0.1, 0.3)).emit(0.5).add(request(0.58, 0.6))
    assert story.attempt(1.0, "succeeded", "complete").ends().broken() == ""


def test_lost_response_to_the_request_that_stored_an_event_explains_no_second_handling() -> None:
    story = delivered().attempt(8.0, "succeeded", "complete", "w2", number=1)
    stored_by = ReplyLost(at=3.0, operation="put_item", event_ids=("e",), applied=True)
    assert "D" in story.add(stored_by).broken()
    settled_by = ReplyLost(at=3.0, operation="update_item", event_ids=("e",), applied=True)
    assert "D" not in story.add(settled_by).broken()


def test_claim_that_was_in_flight_when_the_event_was_completed_is_not_a_violation() -> None:
    story = recovered().claim(13.6, "w1", began_at=1.5)
    assert "A" not in story.broken()


def test_completed_event_must_be_completed_at_the_end() -> None:
    assert "A" in delivered().ends("PENDING").broken()
    assert "A" in delivered().ends("FAILED").broken()


def test_failed_event_is_delivered_again_only_after_a_redrive() -> None:
    story = dead().attempt(8.0, "succeeded", "complete", "w2", number=1).ends()
    assert "A" in story.broken()
    assert story.add(Redriven(at=7.0, event_id="e")).broken() == ""


def test_redrive_may_be_carried_out_late() -> None:
    story = dead().attempt(8.0, "succeeded", "complete", "w2", number=1).ends().add(Redriven(at=0.1, event_id="e"))
    assert "A" in story.broken()
    failed = stored("FAILED", retries=1, sort_key=3.0, token="t")
    assert "A" not in story.write(7.5, failed, stored("PENDING", sort_key=4.0)).broken()


def test_answer_that_an_event_failed_may_come_after_its_redrive_and_delivery() -> None:
    story = HistoryBuilder(max_retries=0).emit().claim(2.0).start(2.1)
    story.attempt(14.2, "succeeded", "complete", "w2", number=1).ends()
    story.add(Recovered(at=14.5, event_id="e", worker="w2", failed=True, began_at=12.4))
    assert "A" in story.broken()
    assert story.add(Redriven(at=13.5, event_id="e")).broken() == ""


def test_recovery_that_fails_an_event_is_an_end_too() -> None:
    story = HistoryBuilder(max_retries=0).emit().claim(2.0).start(2.1).recover(12.5, failed=True)
    assert story.ends("FAILED").broken() == ""
    assert "A" in story.ends("PENDING").broken()


def test_written_items_show_changes_after_the_end() -> None:
    done = stored(token="w1-1")
    story = delivered().write(1.0, None, stored("PENDING", sort_key=0.5))
    story.write(2.0, stored("PENDING", sort_key=0.5), stored("PROCESSING", sort_key=12.0, token="w1-1"))
    story.write(2.3, stored("PROCESSING", sort_key=12.0, token="w1-1"), done)
    assert story.broken() == ""
    assert story.write(2.35, done, done).broken() == ""
    assert "A" in story.write(5.0, done, stored("PENDING", sort_key=5.0, token="w1-1")).broken()


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_written_items_show_a_deletion_after_the_end(status: str) -> None:
    story = HistoryBuilder().write(3.0, stored(status, sort_key=2.0, token="t"), None)
    assert "A" in story.broken()
    assert story.add(ItemDeleted(at=2.9, event_id="e")).broken() == ""


def test_written_items_show_a_redrive_that_was_not_requested_or_keeps_too_much() -> None:
    failed = stored("FAILED", retries=2, sort_key=3.0, token="t", handled_by=("h",))
    pending = stored("PENDING", sort_key=4.0, handled_by=("h",))
    asked = Redriven(at=3.9, event_id="e")
    assert HistoryBuilder().write(4.0, failed, pending).broken() == "A"
    assert HistoryBuilder().add(asked).write(4.0, failed, pending).broken() == ""
    for wrong in (
        stored("PENDING", retries=2, sort_key=4.0, handled_by=("h",)),
        stored("PENDING", sort_key=4.0, handled_by=("h",), token="t"),
        stored("PENDING", sort_key=4.0),
    ):
        assert "A" in HistoryBuilder().add(asked).write(4.0, failed, wrong).broken()


# F


def test_late_outcome_must_not_be_accepted_once_another_worker_has_claimed() -> None:
    assert recovered().settle(14.0, "retry", began_at=13.1, delay=1.0).broken() == "F"
    # It was begun before the second claim was answered: nobody can know which came first.
    assert "F" not in recovered().settle(14.0, "retry", began_at=12.6, delay=1.0).broken()


def test_late_success_is_accepted_while_no_other_worker_has_claimed() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).recover(12.5).end(12.6).settle(12.8).ends(retries=1)
    assert story.broken() == ""


def test_late_renewal_must_not_be_accepted_once_another_worker_has_claimed() -> None:
    assert "F" in recovered().renew(13.9, 23.9).broken()
    assert recovered().renew(5.0, 11.9).broken() == ""


def test_lease_must_not_be_recovered_before_it_runs_out() -> None:
    early = HistoryBuilder().emit().claim(2.0).start(2.1).recover(7.0)
    early.attempt(8.0, "succeeded", "complete", "w2", number=2).ends(retries=1)
    assert "F" in early.broken()
    assert HistoryBuilder().emit().claim(2.0).recover(7.0).ends("PENDING", retries=1, at=15.0).broken() == "F"
    renewed = recovered().renew(5.0, 15.0)
    assert "F" in renewed.broken()


def test_times_that_were_moved_by_hand_are_not_violations() -> None:
    early = HistoryBuilder().emit().claim(2.0).recover(7.0).ends("PENDING", retries=1, at=15.0)
    assert early.broken() == "F"
    assert early.add(TimeMoved(at=6.5, event_id="e")).broken() == ""
    hasty = (
        HistoryBuilder()
        .emit()
        .attempt(2.0, "failed", "retry", delay=1.0)
        .attempt(3.2, "succeeded", "complete", number=2)
    )
    assert hasty.ends(retries=1).broken() == "R"
    assert hasty.add(TimeMoved(at=3.0, event_id="e")).broken() == ""


def test_clock_that_is_ahead_may_recover_earlier() -> None:
    story = HistoryBuilder(clock_offset=6.0).emit().claim(2.0).start(2.1).recover(7.0)
    story.attempt(8.0, "succeeded", "complete", "w2", number=2).ends(retries=1)
    assert story.broken() == ""


def test_leased_event_must_not_be_claimed() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).attempt(5.0, "succeeded", "complete", "w2").ends()
    assert "F" in story.broken()
    released = (
        HistoryBuilder().emit().claim(2.0).settle(2.5, "release").attempt(5.0, "succeeded", "complete", "w2").ends()
    )
    assert released.broken() == ""


@pytest.mark.parametrize(
    "hiding",
    [WorkerKilled(at=4.0, worker="w1"), ReplyLost(at=2.5, operation="UpdateItem", event_ids=("e",))],
    ids=["crash", "lost reply"],
)
def test_outcome_may_be_written_unseen(hiding: object) -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).attempt(5.0, "succeeded", "complete", "w2").ends()
    assert "F" in story.broken()
    assert story.add(hiding).broken() == ""  # type: ignore[arg-type]  # records of any kind


PENDING = stored("PENDING", sort_key=1.0)
HELD = stored("PROCESSING", sort_key=12.0, token="t1")


def held() -> HistoryBuilder:
    return HistoryBuilder().write(1.0, None, PENDING, "w1").write(2.0, PENDING, HELD, "w1")


def test_written_items_show_a_claim_of_what_another_holds() -> None:
    stolen = stored("PROCESSING", sort_key=15.0, token="t2")
    assert held().write(5.0, HELD, stolen, "w2").broken() == "F"


def test_written_items_show_an_event_that_is_overwritten() -> None:
    assert held().write(5.0, HELD, PENDING, "w1").broken() == "F"
    assert HistoryBuilder().write(1.0, None, PENDING, "w1").write(2.0, PENDING, PENDING, "w1").broken() == "F"


def test_written_items_show_writes_without_a_lease() -> None:
    done = stored(token="t1")
    assert held().write(5.0, HELD, done, "w1").broken() == ""
    assert held().write(5.0, HELD, done, "w2").broken() == "F"
    reset = stored("PENDING", retries=1, sort_key=12.5, token="t1")
    assert held().write(12.5, HELD, reset, "w2").broken() == ""
    assert "F" in held().write(11.5, HELD, reset, "w2").broken()
    late = stored("COMPLETED", retries=1, token="t1")
    assert held().write(12.5, HELD, reset, "w2").write(13.0, reset, late, "w1").broken() == ""
    assert held().write(12.5, HELD, reset, "w2").write(13.0, reset, late, "w2").broken() == "F"


def test_written_items_show_handlers_that_are_forgotten() -> None:
    known = stored("PROCESSING", sort_key=12.0, token="t1", handled_by=("h",))
    story = held().write(3.0, HELD, known, "w1")
    assert story.broken() == ""
    assert story.write(4.0, known, HELD, "w1").broken() == "F"


def test_written_items_show_a_deletion_that_was_not_requested() -> None:
    assert held().write(5.0, HELD, None).broken() == "F"
    assert held().add(ItemDeleted(at=4.9, event_id="e")).write(5.0, HELD, None).broken() == ""


def test_written_items_show_a_completed_event_that_was_never_claimed() -> None:
    assert "F" in HistoryBuilder().write(1.0, None, PENDING).write(2.0, PENDING, stored(token=None)).broken()
    assert "F" in HistoryBuilder().write(1.0, None, stored(token=None)).broken()


# R


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


HELD_BY_W1 = stored("PROCESSING", sort_key=12.0, token="w1-1")


def told_by_the_engine(outcome: str, retries: int, result: str = "failed") -> HistoryBuilder:
    story = HistoryBuilder().write(1.0, None, PENDING).write(2.0, PENDING, HELD_BY_W1)
    after = stored("PENDING", retries=retries, sort_key=4.0, token="w1-1")
    return (
        story.attempt(2.1, result, outcome, delay=1.0).write(2.45, HELD_BY_W1, after).ends("PENDING", retries=retries)
    )


def test_written_items_show_whether_the_count_is_what_happened() -> None:
    assert told_by_the_engine("retry", 1).broken() == ""
    assert told_by_the_engine("retry", 0).broken() == "R"
    assert told_by_the_engine("release", 0).broken() == ""
    assert told_by_the_engine("release", 1).broken() == "R"
    assert told_by_the_engine("retry", 1, "succeeded").broken() == "R"


# D


def test_handler_must_not_be_called_twice_under_one_claim() -> None:
    assert delivered().start(2.15).end(2.16).broken() == "D"


def test_second_call_after_a_success_must_be_explained() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(2.2)
    story.attempt(11.95, "succeeded", "complete", "w2", number=2).ends(retries=1)
    assert story.broken() == "DR"


def test_second_call_while_the_first_runs_must_be_explained() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).attempt(13.0, "succeeded", "complete", "w2").end(14.0).ends()
    assert story.broken() == "D"


@pytest.mark.parametrize("ended", ["succeeded", None])
@pytest.mark.parametrize(
    "explaining",
    [
        (WorkerKilled(at=3.0, worker="w1"),),
        (ReplyLost(at=3.0, operation="UpdateItem", event_ids=("e",)),),
        (ReplyLost(at=3.0, operation="UpdateItem", event_ids=()),),
        (SettleRefused(at=15.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.COMPLETE),),
        (LeaseLost(at=15.0, event_id="e", worker="w1", token="w1-1"),),
        (SettleFailed(at=3.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.COMPLETE, error="?"),),
        (WorkerKilled(at=12.2, worker="w3"),),
    ],
    ids=[
        "crash",
        "lost reply",
        "lost reply of anything",
        "refused",
        "lease lost",
        "unknown",
        "recovered by a dead one",
    ],
)
def test_second_call_is_explained(explaining: tuple[object, ...], ended: str | None) -> None:
    story = HistoryBuilder("w1", "w2", "w3").emit().claim(2.0).start(2.1)
    if ended:
        story.end(2.2)
    story.attempt(13.0, "succeeded", "complete", "w2").ends()
    assert story.broken() == "D"
    assert story.add(*explaining).broken() == ""  # type: ignore[arg-type]  # records of any kind


@pytest.mark.parametrize(
    "explaining_nothing",
    [
        WorkerKilled(at=1.0, worker="w1"),
        WorkerKilled(at=14.0, worker="w3"),
        WorkerKilled(at=3.0, worker="w3"),
        ReplyLost(at=1.5, operation="UpdateItem", event_ids=("e",)),
        ReplyLost(at=14.0, operation="UpdateItem", event_ids=("e",)),
        ReplyLost(at=3.0, operation="UpdateItem", event_ids=("another",)),
        LeaseLost(at=15.0, event_id="e", worker="w2", token="w2-1"),
    ],
    ids=repr,
)
def test_what_happened_before_or_after_or_elsewhere_explains_no_second_call(explaining_nothing: object) -> None:
    story = HistoryBuilder("w1", "w2", "w3").emit().claim(2.0).start(2.1).end(2.2)
    story.attempt(13.0, "succeeded", "complete", "w2").ends().add(explaining_nothing)  # type: ignore[arg-type]  # records of any kind
    assert "D" in story.broken()


def test_retries_and_other_handlers_are_not_duplicates() -> None:
    assert retried().broken() == ""
    cancelled = HistoryBuilder().emit().claim(2.0).start(2.1).end(2.3, "cancelled").settle(2.5, "release")
    assert cancelled.attempt(3.0, "succeeded", "complete", "w2").ends().broken() == ""
    partly = (
        HistoryBuilder()
        .emit()
        .claim(2.0)
        .start(2.1)
        .start(2.1, handler="other")
        .end(2.2)
        .end(2.2, "failed", handler="other")
    )
    partly.settle(2.4, "retry", delay=1.0).claim(4.0, attempt=2).start(4.1, attempt=2, handler="other")
    partly.end(4.2, attempt=2, handler="other").settle(4.4, attempt=2).ends(retries=1)
    assert partly.broken() == ""


def test_redrive_explains_no_second_call_of_what_had_succeeded() -> None:
    story = HistoryBuilder(max_retries=0).emit().claim(2.0).start(2.1).start(2.1, handler="other").end(2.2)
    story.end(2.2, "failed", handler="other").settle(2.4, "fail").add(Redriven(at=3.0, event_id="e"))
    again = story.claim(4.0, "w2").start(4.1, "w2", handler="other").end(4.2, worker="w2", handler="other")
    assert again.settle(4.5, worker="w2").ends().broken() == ""
    assert story.start(4.1, "w2").end(4.2, worker="w2").broken() == "D"


def test_abandoned_handler_may_still_run() -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(8.0, "failed").settle(8.2, "retry", delay=1.0)
    story.attempt(9.6, "succeeded", "complete", "w2", number=2).ends(retries=1)
    assert story.end(8.1, "left behind").broken() == ""


def test_written_items_show_an_expiry_that_was_not_recorded() -> None:
    story = HistoryBuilder().emit().write(1.0, None, PENDING).write(2.0, PENDING, HELD_BY_W1)
    story.claim(2.0).start(2.1).end(2.2)
    reset = stored("PENDING", retries=1, sort_key=12.5, token="w1-1")
    held_by_w2 = stored("PROCESSING", retries=1, sort_key=23.0, token="w2-2")
    story.write(12.5, HELD_BY_W1, reset).write(13.0, reset, held_by_w2)
    story.attempt(13.0, "succeeded", "complete", "w2", number=2)
    done = stored(retries=1, token="w2-2")
    assert story.write(13.35, held_by_w2, done).ends(retries=1).broken() == ""


# P


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


# S


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
    faulty = [FaultBegan(at=4.0, name="cut", kind="cut"), FaultEnded(at=6.0, name="cut", kind="cut")]
    assert story.add(*faulty).broken() == ""


def test_refused_or_unknown_outcomes_are_outcomes() -> None:
    story = HistoryBuilder().emit().claim(2.0).add(WorkerStopped(at=5.0, worker="w1")).ends("PENDING", sort_key=100.0)
    assert story.broken() == "S"
    refused = SettleRefused(at=4.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.RELEASE)
    assert story.add(refused).broken() == ""


# C


def test_calls_are_bounded() -> None:
    few = [CallsCounted(at=99.0, operation="Query", calls=3900), CallsCounted(at=99.0, operation="PutItem", calls=8)]
    assert delivered().add(*few).broken() == ""
    assert delivered().add(*few, CallsCounted(at=99.0, operation="UpdateItem", calls=150)).broken() == "C"


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


# Telling


def test_violation_is_printed_with_the_history_of_its_event_alone() -> None:
    story = recovered().settle(14.0, "retry", began_at=13.1, delay=1.0)
    story.add(EmitAsked(at=3.0, event_id="another"))
    violations = story.violations()
    told = report(violations, story.records)
    assert "F e: an outcome of w1 was accepted after w2 had claimed it" in told
    assert "Recovered" in told
    assert "another" not in told
