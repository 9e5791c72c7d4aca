"""What would excuse a defect excuses it only where the log of the backend shows that it has happened, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dynamodb_outbox.dynamodb.ordering.queue import PREFIX
from reliability.history import (
    Discarded,
    EmitAcknowledged,
    EmitAsked,
    EmitRefused,
    HandlerEnded,
    HoldsUnread,
    ItemDeleted,
    LeaseLost,
    Outcome,
    Record,
    Redriven,
    ReplyLost,
    Result,
    SettleFailed,
    SettleRefused,
    Skipped,
    WorkerKilled,
    Written,
)
from tests.reliability.checker.histories import HELD_BY_W1, PENDING, delivered
from tests.reliability.checker.test_holds import started_at
from tests.reliability.checker.test_order import two
from tests.reliability.history_builder import HistoryBuilder, stored
from tests.reliability.line_builder import KEY, LineBuilder

QUEUE = PREFIX + KEY
DONE = stored(token="w1-1")


def claimed() -> HistoryBuilder:
    """An event that was stored and claimed, with the log of it."""
    story = HistoryBuilder().emit().write(0.55, None, PENDING, "w9").write(1.95, PENDING, HELD_BY_W1, "w1")
    return story.claim(2.0).start(2.1)


def found(story: HistoryBuilder | LineBuilder, sentence: str) -> bool:
    return any(sentence in str(violation) for violation in story.violations())


def lost(at: float, operation: str = "transact_write_items", *event_ids: str, **facts: Any) -> ReplyLost:
    return ReplyLost(at=at, operation=operation, event_ids=event_ids or ("e",), **{"applied": True, **facts})


def recovered(story: LineBuilder, at: float, retries: int = 1) -> LineBuilder:
    """Let the second worker recover the queue."""
    assert story.queue is not None
    changes: dict[str, Any] = {"status": "PENDING", "retry_count": retries, "sort_key": round(at * 1000)}
    return story.change(at, replace(story.queue, **changes), "w2")


# Loss


def test_handler_that_has_failed_is_not_forgotten_by_the_next_attempt() -> None:
    story = claimed().start(2.1, handler="other").end(2.2).end(2.2, "failed", handler="other")
    again = stored("PENDING", retries=1, sort_key=3.4, token="w1-1", handled_by=("h",))
    held = stored("PROCESSING", retries=1, sort_key=14.0, token="w1-2", handled_by=("h",))
    done = stored(retries=1, token="w1-2", handled_by=("h",))
    story.write(2.35, HELD_BY_W1, again, "w1").settle(2.4, "retry", delay=1.0).write(3.95, again, held, "w1")
    story.claim(4.0, attempt=2).write(4.35, held, done, "w1").settle(4.4, attempt=2).ends(
        retries=1, token="w1-2", handled_by=("h",)
    )
    assert found(story, "handler 'other' has not succeeded")


@pytest.mark.parametrize(
    "reply",
    [
        lost(0.55, worker="emitter"),
        lost(4.0, worker="w1", applied=False),
    ],
    ids=["of the emit", "of a refused transaction"],
)
def test_lost_response_of_another_transaction_completes_nothing(reply: ReplyLost) -> None:
    story = HistoryBuilder().emit().claim(2.0).start(2.1).end(5.0, "cancelled").ends().add(reply)
    assert found(story, "no handler succeeded")


def test_lost_response_of_a_transaction_of_another_event_of_the_key_completes_nothing() -> None:
    story = LineBuilder().emit(0.5, "a").claim(2.0).start(2.1, "a").end(2.2, "a", result="failed")
    story.mark(2.4, "a").pop(2.5).add(lost(60.0, "transact_write_items", "z", QUEUE))
    assert found(story, "no handler succeeded")


def test_event_that_is_acknowledged_after_its_deletion_is_not_lost() -> None:
    story = delivered().add(ItemDeleted(at=5.0, event_id="e")).emit(6.0)
    story.final = {}
    assert found(story, "it was acknowledged, and is not stored")


@pytest.mark.parametrize(("at", "before"), [(10.0, DONE), (3.0, HELD_BY_W1)])
def test_deletion_that_comes_later_does_not_explain_an_earlier_one(at: float, before: Any) -> None:
    story = claimed() if before is HELD_BY_W1 else claimed().end(2.2).write(2.35, HELD_BY_W1, DONE, "w1").settle(2.4)
    story.write(at, before, None, "w2").add(ItemDeleted(at=50.0, event_id="e"))
    assert found(story, "its item was deleted, and no deletion is recorded")


def test_duplicate_of_an_event_that_was_deleted_before_is_a_wrong_answer() -> None:
    story = claimed().end(2.2).write(2.35, HELD_BY_W1, DONE, "w1").settle(2.4).ends()
    story.add(ItemDeleted(at=5.0, event_id="e")).write(5.0, DONE, None)
    story.add(EmitAsked(at=6.0, event_id="e", worker="x"))
    story.add(EmitRefused(at=6.1, event_id="e", error="DuplicateEventError: event 'e' is stored", worker="x"))
    assert found(story, "refused as a duplicate, and it was not stored")


def test_repeat_that_is_a_duplicate_does_not_hide_a_wrong_refusal() -> None:
    story = HistoryBuilder().add(EmitAsked(at=0.5, event_id="e", worker="x")).write(0.55, None, PENDING, "x")
    story.add(EmitRefused(at=0.6, event_id="e", worker="x", error="UnavailableError: nothing was stored"))
    story.add(EmitAsked(at=1.0, event_id="e", worker="x"))
    story.add(EmitRefused(at=1.1, event_id="e", worker="x", error="DuplicateEventError: event 'e' is stored"))
    assert found(story.ends("PENDING"), "x has stored it, and its emit was told that nothing is stored")


def test_emit_that_is_a_duplicate_of_its_own_write_makes_no_earlier_refusal_wrong() -> None:
    asked = EmitAsked(at=0.5, event_id="e", worker="x")
    refused = EmitRefused(at=0.6, event_id="e", worker="x", error="CredentialsError: expired")
    story = HistoryBuilder().add(asked, refused, replace(asked, at=1.0))
    story.write(1.05, None, PENDING, "x").add(lost(1.05, "put_item", worker="x"))
    story.add(replace(refused, at=1.1, error="DuplicateEventError: event 'e' is stored"))
    assert story.ends("PENDING").violations() == []


def test_emit_is_acknowledged_only_if_it_has_stored_the_event() -> None:
    story = claimed().add(
        EmitAsked(at=5.0, event_id="e", worker="y"), EmitAcknowledged(at=5.1, event_id="e", worker="y")
    )
    story.add(lost(60.0, "put_item", worker="z")).ends("PROCESSING")
    assert found(story, "the emit of y was told that it had stored it, and it had not")


def test_event_with_a_key_is_in_its_queue_when_its_emit_is_acknowledged() -> None:
    story = LineBuilder().ask(0.5, "a").put(0.51, "a").add(EmitAcknowledged(at=0.52, event_id="a", worker="emitter"))
    assert found(story.append(30.0, "a").claim(31.0).handle(31.1, "a"), "acknowledged, and no queue had it")


# Order


@pytest.mark.parametrize("event_id", ["a", "b"])
@pytest.mark.parametrize("excuse", [Discarded, ItemDeleted])
def test_later_discard_or_deletion_does_not_excuse_the_order_of_the_queue(
    excuse: Callable[..., Record], event_id: str
) -> None:
    story = LineBuilder().ask(0.5, "a").put(0.51, "a").add(EmitAcknowledged(at=0.52, event_id="a", worker="emitter"))
    story.emit(0.7, "b").append(0.9, "a").claim(2.0).handle(2.1, "b", keeps=True).handle(2.6, "a")
    assert found(story.add(excuse(at=50.0, event_id=event_id)), "and it was listed after that")


@pytest.mark.parametrize("excuse", [Discarded(at=1.0, event_id="a"), Skipped(at=1.0, event_id="a")])
def test_discard_or_skip_that_was_refused_does_not_excuse_the_order(excuse: Record) -> None:
    story = two(log=False).claim(2.0).start(2.1, "a").claimed(2.2, "b", "w2", token="t").start(2.3, "b", "w2")
    story.end(2.4, "a").end(2.5, "b", "w2").mark(2.6, "a").mark(2.7, "b").pop(2.8).pop(2.9)
    assert found(story.add(excuse), "and it had not ended")


def test_redrive_of_an_event_that_had_not_failed_does_not_excuse_the_order() -> None:
    story = two(log=False).claim(2.0, event_id="b").start(2.1, "b").end(2.2, "b").mark(2.3, "b").settle(2.5, "b")
    story.claim(3.0, event_id="a").start(3.1, "a").end(3.2, "a").mark(3.3, "a").settle(3.5, "a")
    story.queue = None
    assert found(story.add(Redriven(at=1.0, event_id="a")), "after b had begun")


def test_clock_that_is_wrong_does_not_excuse_what_no_recovery_explains() -> None:
    story = two(clock_offset=300.0).claim(2.0).start(2.05, "a").mark(2.2, "a").pop(2.3)
    token = story.tokens["w1"]
    story.claim(2.6, "w2").handle(2.7, "b", "w2").end(4.0, "a", token=token)
    assert found(story, "held the lease of key")


def test_clock_that_is_wrong_does_not_excuse_a_handler_that_is_called_after_its_successor() -> None:
    story = two(clock_offset=300.0).claim(2.0)
    token = story.tokens["w1"]
    story.start(2.05, "a").end(2.1, "a").mark(2.2, "a").pop(2.3, status="PROCESSING", token="t", sort_key=12_300)
    story.claimed(2.4, "b", token="t").start(2.5, "b", token="t").start(2.6, "a", token=token, handler="other")
    assert found(story, "after b had begun")


def test_event_is_stored_with_the_key_of_its_emit() -> None:
    story = LineBuilder().ask(0.5, "a").add(EmitAcknowledged(at=0.6, event_id="a", worker="emitter"))
    assert found(story.write(0.55, "a", replace(PENDING, event_id="a"), "emitter"), "it is stored with key None")


def test_event_takes_the_place_only_of_the_event_that_it_replaces() -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a").mark(2.3, "a")
    story.add(EmitAsked(at=2.31, event_id="c", worker="op", ordering_key=KEY, replaces="z")).put(2.35, "c", "op")
    assert story.queue is not None
    story.change(2.4, replace(story.queue, status="PENDING", token=None, ids=("c", "b"), sort_key=2400), "op")
    assert found(story, "it took the place of a")


def test_only_the_holder_takes_events_from_a_queue() -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a").mark(2.3, "a").pop(2.35, "w2")
    assert found(story, "w2 took it from the queue of key 'k', which w1 held")


def test_queue_that_is_held_gets_no_other_token() -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a").mark(2.3, "a").claim(2.4, "w2", event_id="a")
    assert found(story, "w2 claimed key 'k', which another claim held")


@pytest.mark.parametrize("is_due", [True, False])
def test_queue_whose_front_is_done_is_not_left_alone(*, is_due: bool) -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a").mark(2.3, "a")
    assert found(recovered(story, 12.5) if is_due else story, "longer than it takes to get to it")


@pytest.mark.parametrize(
    "excuse",
    [None, WorkerKilled(at=1.0, worker="w2"), lost(1.0, "append", QUEUE)],
    ids=["nothing", "a kill", "a lost response"],
)
def test_worker_that_blocks_a_key_says_so(excuse: Record | None) -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a")
    assert story.queue is not None
    story.change(2.5, replace(story.queue, status="FAILED", sort_key=2000), "w1")
    assert found(story.add(*([] if excuse is None else [excuse])), "no worker has settled it as FAILED")


# Fencing


def late(status: str, result: str = "succeeded") -> LineBuilder:
    """The first worker marks an event after it has lost its lease, while a handler of the second one runs."""
    story = two(skips_failed=True).claim(2.0).start(2.1, "a").end(9.0, "a", result=result)
    recovered(story, 12.1).claim(12.5, "w2", attempt=2).start(12.6, "a", "w2")
    return story.mark(12.7, "a", "w1", status=status).end(12.8, "a", "w2")


@pytest.mark.parametrize(
    ("status", "result", "is_allowed"),
    [("COMPLETED", "succeeded", True), ("COMPLETED", "cancelled", False), ("FAILED", "failed", False)],
)
def test_late_mark_needs_handlers_that_have_succeeded(status: str, result: str, *, is_allowed: bool) -> None:
    assert found(late(status, result), "w1 changed it, and another worker held it") is not is_allowed


def test_skip_that_comes_later_does_not_explain_who_has_set_an_event_aside() -> None:
    story = two().claim(2.0).fail(2.1, "a").mark(10.0, "a", "w2", status="FAILED").pop(10.0, "w2")
    assert found(story.add(Skipped(at=60.0, event_id="a")), "w2 changed it, and another worker held it")


def test_outcome_is_told_only_if_the_event_has_it() -> None:
    again = stored("PENDING", retries=1, sort_key=3.4, token="w1-1")
    story = claimed().end(2.2, "failed").write(2.35, HELD_BY_W1, again, "w1").settle(2.4, "fail")
    assert found(story.ends("PENDING", retries=1), "its outcome was told as FAILED, and it was not FAILED")


@pytest.mark.parametrize(("worker", "why"), [("w2", "without a claim"), ("w1", "after the outcome")])
def test_handler_is_called_only_under_a_claim(worker: str, why: str) -> None:
    assert found(delivered().start(20.0, worker, handler="other"), f"{worker} called handler 'other' {why}")


# Retries, duplicates and holds


def test_event_whose_handlers_have_succeeded_is_not_failed() -> None:
    story = HistoryBuilder().emit().attempt(2.0, "succeeded", "fail").ends("FAILED")
    assert found(story, "it became FAILED, and all its handlers had succeeded")


def test_recovery_fails_no_event_that_has_a_retry_left() -> None:
    failed = stored("FAILED", sort_key=12.45, token="w1-1")
    story = claimed().recover(12.5, failed=True).write(12.45, HELD_BY_W1, failed, "w2")
    assert found(story, "a recovery made it FAILED, with 2 retries left")


@pytest.mark.parametrize(
    "excuse",
    [
        lost(2.3, "update_item", worker="w1"),
        LeaseLost(at=90.0, event_id="e", worker="w1", token="w1-1"),
        SettleFailed(at=90.0, event_id="e", worker="w1", token="w1-1", outcome=Outcome.RETRY, error="no answer"),
        WorkerKilled(at=2.9, worker="w1"),
        HandlerEnded(
            at=90.0, event_id="e", worker="w1", token="w1-1", handler="h", attempt=1, result=Result.LEFT_BEHIND
        ),
    ],
    ids=lambda excuse: type(excuse).__name__,
)
def test_only_a_recovery_of_the_log_explains_a_duplicate(excuse: Record) -> None:
    again, held = stored("PENDING", sort_key=2.4, token="w1-1"), stored("PROCESSING", sort_key=13.0, token="w2-1")
    story = claimed().end(2.2).write(2.35, HELD_BY_W1, again, "w1").settle(2.4, "release")
    story.write(2.95, again, held, "w2").attempt(3.0, "succeeded", "complete", "w2")
    story.write(3.35, held, stored(token="w2-1"), "w2").ends(token="w2-1")
    assert found(story.add(excuse), "and nothing explains it")


def test_recovery_is_early_also_where_the_log_does_not_name_workers() -> None:
    again = stored("PENDING", retries=1, sort_key=4.0, token="w1-1")
    held, done = stored("PROCESSING", retries=1, sort_key=14.0, token="w2-2"), stored(retries=1, token="w2-2")
    states = [None, PENDING, HELD_BY_W1, again, held, done]
    story = HistoryBuilder().emit().claim(2.0).start(2.1).recover(4.0)
    story.attempt(4.5, "succeeded", "complete", "w2", number=2).end(6.0)
    refused = SettleRefused(at=6.2, began_at=6.1, event_id="e", worker="w1", token="w1-1", outcome=Outcome.COMPLETE)
    story.add(refused)
    for before, after in pairwise(states):
        story.add(Written(at=60.0, event_id="e", before=before, after=after, began_at=0.0))
    assert found(story.ends(retries=1, token="w2-2"), "before its lease ran out")


def test_hold_that_could_not_be_read_long_ago_excuses_nothing() -> None:
    assert "H" in started_at(90.0, HoldsUnread(at=2.0, worker="w1")).broken()
