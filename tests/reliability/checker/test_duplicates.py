"""Invariant D: every second call of a handler is explained by an expiry, a crash or a lost response."""

from __future__ import annotations

import pytest

from reliability.history import (
    ItemDeleted,
    LeaseLost,
    Outcome,
    Redriven,
    ReplyLost,
    SettleFailed,
    SettleRefused,
    WorkerKilled,
)
from tests.reliability.checker.histories import HELD_BY_W1, PENDING, delivered, retried
from tests.reliability.history_builder import HistoryBuilder, stored


def test_handler_must_not_be_called_twice_under_one_claim() -> None:
    assert delivered().start(2.15).end(2.16).broken() == "D"


def test_deleted_event_that_is_emitted_again_has_two_claims_of_one_attempt() -> None:
    story = HistoryBuilder().emit().attempt(2.0, "succeeded", "complete").start(2.15).end(2.25).ends()
    assert story.broken() == "D"
    assert story.emit(2.12).broken() == "D"
    assert story.add(ItemDeleted(at=2.11, event_id="e")).broken() == ""


def test_calls_of_two_claims_around_a_deletion_may_have_the_token_of_the_second() -> None:
    story = HistoryBuilder().emit().claim(2.0).emit(2.12).claim(2.4).start(2.5).start(2.51).end(2.6).end(2.61)
    story.settle(2.7, "complete").ends()
    assert "D" in story.broken()
    assert "D" not in story.add(ItemDeleted(at=2.11, event_id="e")).broken()


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
