"""Invariant A: a terminal state is final but for a redrive."""

from __future__ import annotations

import pytest

from reliability.history import EmitAsked, ItemDeleted, Recovered, Redriven, ReplyLost, WorkerSuspended
from tests.reliability.checker.histories import HELD, dead, delivered, held, recovered, request
from tests.reliability.history_builder import HistoryBuilder, stored


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
    assert story.emit(5.5).broken() == "L"
    assert story.ends("PENDING").broken() == ""


def test_event_is_stored_by_one_emit_only() -> None:
    story = delivered().emit(0.55)
    assert story.broken() == "D"
    unclear = request(0.6, 0.9, error="ConnectionClosedError", worker="w9")
    assert delivered().emit(0.55).add(unclear).broken() == ""
    assert delivered().emit(0.55).add(request(0.6, 0.9, error="ConditionalCheckFailedException")).broken() == "D"


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
