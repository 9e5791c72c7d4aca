"""Invariant F: only the holder of the current token changes a claimed event."""

from __future__ import annotations

import pytest

from reliability.history import ItemDeleted, ReplyLost, TimeMoved, WorkerKilled
from tests.reliability.checker.histories import HELD, PENDING, held, recovered
from tests.reliability.history_builder import HistoryBuilder, stored


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
