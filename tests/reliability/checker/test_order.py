"""Invariant O: the events of a key are handled in order, one at a time, and no key is stuck."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reliability.history import (
    Claimed,
    Discarded,
    EmitAcknowledged,
    EmitRefused,
    HandlerEnded,
    ItemDeleted,
    LeaseRenewed,
    Outcome,
    Recovered,
    Redriven,
    ReplyLost,
    RequestFailed,
    Result,
    SettleFailed,
    Skipped,
    Stored,
    StoredQueue,
    WorkerKilled,
    WorkerStarted,
)
from tests.reliability.line_builder import KEY, LineBuilder

with_and_without_log = pytest.mark.parametrize("log", [True, False], ids=["log", "no log"])


def two(**options: Any) -> LineBuilder:
    """Two events of a key, emitted one after the other."""
    return LineBuilder(**options).emit(0.5, "a").emit(0.7, "b")


def handled(**options: Any) -> LineBuilder:
    """Both are handled in their order, under one lease that is handed on."""
    return two(**options).claim(2.0).handle(2.1, "a", keeps=True).handle(2.6, "b")


# Usual histories


@with_and_without_log
def test_events_that_are_handled_in_order_break_nothing(*, log: bool) -> None:
    assert handled(log=log).violations() == []
    apart = two(log=log).claim(2.0).handle(2.1, "a").claim(3.0, "w2").handle(3.1, "b", "w2")
    assert apart.violations() == []
    assert two(log=log).claim(2.0).handle(2.1, "a").claim(3.0).fail(3.1, "b").violations() == []


@with_and_without_log
def test_event_is_handled_again_before_its_successor_where_that_is_explained(*, log: bool) -> None:
    story = two(log=log).claim(2.0).start(2.1, "a").add(WorkerKilled(at=2.2, worker="w1"))
    assert story.queue is not None
    story.change(12.2, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_200), "w2")
    story.claim(12.5, "w2", attempt=2).start(12.6, "a", "w2").end(12.7, "a", "w2").mark(12.8, "a", "w2").pop(12.9, "w2")
    story.settle(13.0, "a", worker="w2", attempt=2).claim(13.5, "w2").handle(13.6, "b", "w2")
    assert story.violations() == []


# Order


@with_and_without_log
def test_event_is_not_handled_again_after_its_successor(*, log: bool) -> None:
    # The first token is that of the event; the recorder of the worker is right.
    story = two(log=log).claim(2.0)
    token = story.tokens["w1"]
    story.handle(2.1, "a", keeps=True).start(2.6, "b").start(2.7, "a", token=token).end(2.75, "a", token=token)
    story.end(2.8, "b").mark(2.9, "b").pop(3.0).settle(3.1, "b")
    assert "O" in story.broken()
    assert any("after b had begun" in str(violation) for violation in story.violations())


def test_call_under_the_token_of_another_event_is_found() -> None:
    assert any(
        "under a token with which a was at the front" in str(violation)
        for violation in two().claim(2.0).start(2.1, "b").violations()
    )


def test_event_must_have_ended_when_the_next_one_begins() -> None:
    # Without a log, the handlers of the first event tell.
    story = two(log=False).claim(2.0).start(2.1, "a").claimed(2.2, "b", "w2", token="t").start(2.3, "b", "w2")
    story.end(2.4, "a").end(2.5, "b", "w2").mark(2.6, "a").mark(2.7, "b").pop(2.8).pop(2.9)
    assert any("and it had not ended" in str(violation) for violation in story.violations())


@pytest.mark.parametrize("status", ["COMPLETED", "DISCARDED"])
def test_event_leaves_the_queue_only_after_it_has_ended(status: str) -> None:
    assert any("and had not ended" in str(found) for found in two().claim(2.0).pop(2.1).violations())
    ended = two().claim(2.0).mark(2.05, "a", status=status).pop(2.1)
    assert not any("and had not ended" in str(found) for found in ended.violations())


def test_event_that_was_deleted_and_emitted_again_may_leave_the_queue_and_comes_back() -> None:
    story = two().claim(2.0).add(ItemDeleted(at=2.04, event_id="a")).write(2.05, "a", None)
    story.ask(2.05, "a").put(2.06, "a")
    # The worker had looked for the event before it was stored again.
    story.pop(2.1, token="t", status="PROCESSING", sort_key=12_000).claimed(2.15, "b", token="t")
    story.append(2.2, "a").add(EmitAcknowledged(at=2.25, event_id="a"))
    assert story.handle(2.3, "b", keeps=True).handle(2.8, "a").broken() == ""


def test_event_that_is_stored_again_at_the_front_has_the_handlers_that_its_queue_knows() -> None:
    story = two().claim(2.0)
    assert story.queue is not None
    story.change(2.03, replace(story.queue, handled_by=("other",)), "w1").add(ItemDeleted(at=2.04, event_id="a"))
    story.write(2.05, "a", None).ask(2.06, "a").put(2.07, "a").add(EmitAcknowledged(at=2.1, event_id="a"))
    assert story.handle(2.2, "a", keeps=True).handle(2.8, "b").broken() == ""


@pytest.mark.parametrize("worker", ["w1", "w2"])
def test_queue_of_an_event_that_is_stored_again_is_released_by_its_holder(worker: str) -> None:
    story = two().add(ItemDeleted(at=1.9, event_id="a")).write(1.9, "a", None).ask(1.95, "a")
    assert story.queue is not None
    claimed = replace(story.queue, status="PROCESSING", token="t", sort_key=12_000)
    story.change(2.0, claimed, "w1").put(2.1, "a", "emitter").add(EmitAcknowledged(at=2.2, event_id="a"))
    story.claimed(2.3, "a", token="t").change(2.4, replace(claimed, status="PENDING", sort_key=2_400), worker)
    assert ("another worker held it" in str(story.violations())) is (worker == "w2")


@pytest.mark.parametrize("status", ["FAILED", "HELD"])
def test_event_that_is_stored_again_may_find_its_queue_blocked_or_on_hold(status: str) -> None:
    story = two()
    assert story.queue is not None
    story.change(2.0, replace(story.queue, status=status)).add(ItemDeleted(at=2.04, event_id="a"))
    story.write(2.05, "a", None).ask(2.06, "a").put(2.07, "a").add(EmitAcknowledged(at=2.1, event_id="a"))
    assert not any("of nothing" in str(found) for found in story.violations())


def test_event_that_was_deleted_and_is_listed_again_is_handled_before_it_leaves() -> None:
    story = two().claim(2.0).handle(2.1, "a", keeps=True).add(ItemDeleted(at=2.8, event_id="a"))
    story.write(2.81, "a", None).ask(2.82, "a").put(2.83, "a").append(2.84, "a")
    story.add(EmitAcknowledged(at=2.85, event_id="a")).handle(3.0, "b", keeps=True).pop(3.6)
    assert any("and had not ended" in str(found) for found in story.violations())


def test_event_that_was_deleted_leaves_the_queue() -> None:
    story = two().claim(2.0).add(ItemDeleted(at=2.04, event_id="a")).write(2.05, "a", None).pop(2.1)
    assert story.claim(3.0).handle(3.1, "b").violations() == []


@with_and_without_log
def test_event_is_not_overtaken_by_a_later_emit(*, log: bool) -> None:
    story = LineBuilder(log=log).ask(0.5, "a").put(0.51, "a").add(EmitAcknowledged(at=0.52, event_id="a"))
    story.emit(0.7, "b").append(0.9, "a").claim(2.0).handle(2.1, "b", keeps=True).handle(2.6, "a")
    assert story.broken() == ("LO" if log else "O")


@pytest.mark.parametrize("is_discarded", [True, False])
def test_discarded_event_may_be_listed_again(*, is_discarded: bool) -> None:
    story = LineBuilder().ask(0.5, "a").put(0.51, "a").add(EmitAcknowledged(at=0.52, event_id="a"))
    if is_discarded:
        story.add(Discarded(at=0.6, event_id="a"))
        story.write(0.65, "a", replace(story.events["a"], status="DISCARDED", waits=False), "w1")
    story.emit(0.7, "b").append(0.9, "a").claim(2.0).handle(2.1, "b", keeps=is_discarded is False)
    if is_discarded:
        story.pop(2.8, "w1")
    assert ("O" in story.broken()) is not is_discarded


@with_and_without_log
def test_emits_that_overlap_have_any_order(*, log: bool) -> None:
    story = LineBuilder(log=log).ask(0.5, "a").put(0.51, "a").emit(0.7, "b").append(0.9, "a")
    story.add(EmitAcknowledged(at=0.95, event_id="a"))
    assert story.claim(2.0).handle(2.1, "b", keeps=True).handle(2.6, "a").violations() == []


@with_and_without_log
def test_events_of_one_call_keep_the_order_of_the_call(*, log: bool) -> None:
    story = LineBuilder(log=log).ask(0.5, "a", "b").put(0.51, "a").put(0.52, "b").append(0.55, "b", "a")
    story.add(*(EmitAcknowledged(at=0.6, event_id=each, worker="emitter") for each in "ab"))
    assert story.claim(2.0).handle(2.1, "b", keeps=True).handle(2.6, "a").broken() == "O"
    right = LineBuilder(log=log).emit(0.5, "a", "b").claim(2.0).handle(2.1, "a", keeps=True).handle(2.6, "b")
    assert right.violations() == []


@with_and_without_log
def test_emit_that_is_refused_as_a_duplicate_counts_as_acknowledged(*, log: bool) -> None:
    refused = EmitRefused(at=0.6, event_id="a", error="DuplicateEventError: 'a' is stored", worker="emitter")
    story = LineBuilder(log=log).ask(0.5, "a").put(0.51, "a").add(refused).emit(0.7, "b").append(0.9, "a")
    assert story.claim(2.0).handle(2.1, "b", keeps=True).handle(2.6, "a").broken() == "O"


# The lease


@with_and_without_log
def test_no_handler_is_called_after_the_end_of_the_lease(*, log: bool) -> None:
    late = two(log=log).claim(2.0).start(12.5, "a").end(12.6, "a").mark(12.7, "a").pop(12.8)
    late.settle(12.9, "a").claim(13.0, "w2").handle(13.1, "b", "w2")
    assert late.broken() == "O"
    renewed = LeaseRenewed(at=11.0, event_id="a", worker="w1", token="w1 2.0", lease_expires_at=21.0)
    assert late.add(renewed).violations() == []


@with_and_without_log
def test_call_is_late_only_by_the_clocks_of_two_workers(*, log: bool) -> None:
    def story(offset: float) -> LineBuilder:
        made = two(log=log, clock_offset=offset).claim(2.0)
        token = made.tokens["w1"]
        assert made.queue is not None
        # The clock of the second worker is ahead.
        made.change(7.0, replace(made.queue, status="PENDING", retry_count=1, sort_key=7_000), "w2")
        made.claim(7.5, "w2", attempt=2).handle(7.6, "a", "w2", keeps=True).handle(8.1, "b", "w2")
        return made.start(9.0, "a", token=token).end(9.1, "a", token=token)

    found = [violation for violation in story(0.0).violations() if violation.invariant == "O"]
    assert any("after b had begun" in str(violation) for violation in found)
    assert [violation for violation in story(6.0).violations() if violation.invariant == "O"] == []


@with_and_without_log
def test_handlers_of_two_claims_do_not_overlap_while_the_first_lease_holds(*, log: bool) -> None:
    def story(at: float) -> LineBuilder:
        made = two(log=log).claim(2.0).start(2.1, "a")
        token = made.tokens["w1"]
        assert made.queue is not None
        made.change(
            at - 1, replace(made.queue, status="PENDING", retry_count=1, sort_key=round(at * 1000) - 1000), "w2"
        )
        made.claim(at - 0.5, "w2", attempt=2).handle(at, "a", "w2")
        return made.end(at + 0.5, "a", token=token)

    def overlaps(made: LineBuilder) -> bool:
        return any("held the lease of key" in str(violation) for violation in made.violations())

    assert overlaps(story(9.0))
    assert not overlaps(story(13.0))
    assert not overlaps(story(9.0).add(WorkerKilled(at=5.0, worker="w1")))
    abandoned = story(9.0)
    end = HandlerEnded(
        at=8.9, event_id="a", worker="w1", token="w1 2.0", handler="h", attempt=1, result=Result.LEFT_BEHIND
    )
    assert overlaps(story(9.0).add(replace(end, at=9.1)))
    assert not overlaps(abandoned.add(end))


@pytest.mark.parametrize(("offset", "is_broken"), [(0.0, True), (300.0, False)])
def test_claim_that_another_clock_has_ended_may_call_its_next_handler(*, offset: float, is_broken: bool) -> None:
    story = two(clock_offset=offset).claim(2.0).start(2.1, "a").end(2.2, "a")
    token = story.tokens["w1"]
    assert story.queue is not None
    story.change(3.0, replace(story.queue, status="PENDING", retry_count=1, sort_key=3000), "w2")
    # The lease of the other worker ends by a clock that is five minutes ahead.
    story.change(3.4, replace(story.queue, status="PROCESSING", token="t2", sort_key=round((13 + offset) * 1000)), "w2")
    story.add(
        Claimed(at=3.5, event_id="a", worker="w2", token="t2", attempt=2, began_at=3.3, lease_expires_at=13 + offset)
    )
    story.start(3.6, "a", "w2", token="t2").start(3.7, "a", token=token).end(3.8, "a", token=token)
    story.end(3.9, "a", "w2", token="t2")
    assert any("held the lease of key" in str(violation) for violation in story.violations()) is is_broken


@pytest.mark.parametrize(("ends", "is_broken"), [(16.0, False), (313.0, True)])
def test_clock_that_was_set_back_shortens_the_lease_with_the_next_renewal(*, ends: float, is_broken: bool) -> None:
    story = two(clock_offset=300.0)
    assert story.queue is not None
    story.change(1.95, replace(story.queue, status="PROCESSING", token="t1", sort_key=312_000), "w1")
    story.add(Claimed(at=2.0, event_id="a", worker="w1", token="t1", attempt=1, began_at=1.9, lease_expires_at=312.0))
    story.start(2.1, "a", token="t1")
    assert story.queue is not None
    story.change(6.0, replace(story.queue, sort_key=round(ends * 1000)), "w1")
    story.add(LeaseRenewed(at=6.1, event_id="a", worker="w1", token="t1", lease_expires_at=ends, began_at=5.9))
    story.change(6.5, replace(story.queue, status="PENDING", retry_count=1, sort_key=6_500), "w1")
    story.claim(9.0, attempt=2).start(9.1, "a").end(9.2, "a").end(9.5, "a", token="t1")
    assert any("held the lease of key" in str(violation) for violation in story.violations()) is is_broken


# The queue


def queue(**facts: Any) -> StoredQueue:
    return StoredQueue(**{"key": KEY, "status": "PENDING", "ids": ("a", "b"), "sort_key": 1_000, **facts})


PAGED = {"epoch": "e", "first_page": 1, "last_page": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (queue(), queue(ids=("b", "a"))),
        (queue(), queue(ids=("a",))),
        (queue(), queue(ids=("c", "a", "b"))),
        (queue(), None),
        (queue(ids=("a",), head=("b",)), None),
        (queue(ids=("a", "b", "c")), queue(ids=("c",))),
        (queue(head=("c", "d")), queue(head=("d",), ids=("a",))),
        (queue(head=("c", "d")), queue()),
        (queue(), queue(head=("a",), ids=("c",))),
        (queue(), queue(ids=("c",), **PAGED)),
        (queue(head=("c",)), queue(head=("d",), ids=("e",), **PAGED)),
    ],
    ids=range(11),
)
def test_queue_changes_only_by_its_transitions(before: StoredQueue, after: StoredQueue | None) -> None:
    story = LineBuilder().change(1.0, before).change(2.0, after)
    assert any("no transition makes" in str(violation) for violation in story.violations())


def test_pages_are_followed() -> None:
    ids = [f"e{n}" for n in range(8)]
    story = LineBuilder()
    for each in ids:
        story.put(0.1, each)
    story.append(0.2, *ids[:2]).change(0.3, queue(head=tuple(ids[:2]), ids=tuple(ids[2:4])))
    # One transaction may store several pages.
    story.page(0.4, 1, *ids[2:4]).page(0.4, 2, *ids[4:6])
    story.change(0.5, queue(head=tuple(ids[:2]), ids=tuple(ids[6:]), epoch="e", first_page=1, last_page=2))
    story.mark(0.6, "e0").change(0.7, queue(head=("e1",), ids=tuple(ids[6:]), epoch="e", first_page=1, last_page=2))
    refilled = queue(head=tuple(ids[2:4]), ids=tuple(ids[6:]), epoch="e", first_page=2, last_page=2)
    story.mark(0.8, "e1").change(0.9, refilled).page(0.9, 1)
    story.queue = replace(refilled, paged=tuple(ids[4:6]))
    assert not [violation for violation in story.violations() if violation.invariant == "O"]
    story.queue = replace(refilled, paged=tuple(ids[4:5]))
    assert any("at the end" in str(violation) for violation in story.violations())
    # The page that becomes the head has to be the first one.
    story.change(1.0, replace(refilled, head=("e3",)))
    story.change(1.1, replace(refilled, head=tuple(ids[6:]), first_page=3))
    assert any("no transition makes" in str(violation) for violation in story.violations())


def test_page_that_no_queue_has_is_found() -> None:
    story = handled()
    story.stray_pages = ("dynamodb-outbox-page/e/1/k",)
    assert story.broken() == "O"


# Lost and stuck


@with_and_without_log
def test_acknowledged_event_that_no_queue_has_is_lost(*, log: bool) -> None:
    story = LineBuilder(log=log).ask(0.5, "a").put(0.51, "a").add(EmitAcknowledged(at=0.6, event_id="a"))
    assert story.broken() == "L"
    # Nobody was told that it is stored.
    assert LineBuilder(log=log).ask(0.5, "a").put(0.51, "a").violations() == []


@with_and_without_log
def test_event_that_waits_behind_a_dead_letter_is_not_lost(*, log: bool) -> None:
    assert two(log=log).claim(2.0).fail(2.1, "a").violations() == []


@with_and_without_log
def test_key_is_blocked_only_by_an_event_that_failed(*, log: bool) -> None:
    story = two(log=log).claim(2.0)
    assert story.queue is not None
    story.change(2.5, replace(story.queue, status="FAILED"), "w1")
    assert "O" in story.broken()
    assert two(log=log, skips_failed=True).claim(2.0).fail(2.1, "a").broken() == "O"


@with_and_without_log
def test_key_that_is_blocked_by_a_completed_event_is_stuck(*, log: bool) -> None:
    assert "O" in two(log=log).claim(2.0).fail(2.1, "a").mark(3.0, "a").broken()


@pytest.mark.parametrize("unseen", ["killed", "not answered"])
@with_and_without_log
def test_completed_event_may_block_its_key_if_its_worker_could_not_look(*, log: bool, unseen: str) -> None:
    story = two(log=log).claim(2.0).start(2.1, "a").end(2.2, "a")
    token = story.tokens["w1"]
    # The second worker fails the event for good after the lease of the first; then the first one completes it.
    assert story.queue is not None
    story.change(12.5, replace(story.queue, status="PENDING", retry_count=2, sort_key=12_500), "w2")
    story.claim(13.0, "w2", attempt=3, event_id="a").fail(13.1, "a", "w2").mark(14.0, "a", "w1")
    assert "O" in story.broken()
    if unseen == "killed":
        story.add(WorkerKilled(at=13.9, worker="w1"))
    else:
        facts = {"worker": "w1", "token": token, "error": "no answer", "began_at": 13.8}
        story.add(SettleFailed(at=13.9, event_id="a", outcome=Outcome.COMPLETE, **facts))  # type: ignore[arg-type]  # mypy takes all facts for one type
    assert "O" not in story.broken()


@with_and_without_log
def test_dead_letter_that_is_skipped_lets_its_key_go_on(*, log: bool) -> None:
    story = two(log=log).claim(2.0).fail(2.1, "a").add(Skipped(at=3.0, event_id="a")).mark(3.1, "a", status="FAILED")
    assert story.pop(3.2).claim(4.0).handle(4.1, "b").violations() == []


@with_and_without_log
def test_dead_letter_that_is_retried_in_place_comes_before_its_successor(*, log: bool) -> None:
    story = two(log=log).claim(2.0).fail(2.1, "a").add(Redriven(at=3.0, event_id="a"))
    assert story.queue is not None
    story.change(3.1, replace(story.queue, status="PENDING", token=None, sort_key=3_100))
    story.claim(4.0, "w2").handle(4.1, "a", "w2", keeps=True).handle(4.6, "b", "w2")
    assert story.violations() == []


def test_dead_letter_that_was_set_aside_goes_to_the_end_of_the_line() -> None:
    story = two(skips_failed=True).claim(2.0).start(2.1, "a").end(2.2, "a", result="failed")
    story.mark(2.3, "a", status="FAILED").pop(2.4).settle(2.5, "a", "fail", attempt=3)
    story.add(Redriven(at=3.0, event_id="a")).put(3.1, "a").append(3.1, "a")
    story.claim(4.0).handle(4.1, "b", keeps=True).handle(4.6, "a")
    assert story.violations() == []


# Late marks, and lost replies


@with_and_without_log
def test_worker_that_has_lost_its_lease_may_still_mark_its_event(*, log: bool) -> None:
    story = two(log=log).claim(2.0).start(2.1, "a").end(2.2, "a")
    assert story.queue is not None
    story.change(12.1, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_100), "w2")
    story.add(ReplyLost(at=3.0, operation="UpdateItem", event_ids=(f"dynamodb-outbox-key/{KEY}",)))
    story.claim(12.5, "w2", attempt=2).mark(12.6, "a", "w1").start(12.7, "a", "w2").end(12.8, "a", "w2")
    story.pop(12.9, "w2").settle(13.0, "a", worker="w2", attempt=2).claim(13.5, "w2").handle(13.6, "b", "w2")
    assert story.violations() == []


@pytest.mark.parametrize("late", [True, False])
def test_dead_letter_may_be_completed_late_under_a_lease_that_was_lost(*, late: bool) -> None:
    story = two().claim(2.0).start(2.1, "a")
    lost = story.tokens["w1"]
    assert story.queue is not None
    story.change(12.2, replace(story.queue, status="PENDING", retry_count=2, sort_key=12_200), "w1")
    story.claim(12.5, attempt=3).fail(12.6, "a")
    story.end(13.0, "a", token=lost if late else None).mark(13.1, "a").add(Skipped(at=14.0, event_id="a")).pop(14.1)
    assert ("A" in story.claim(15.0).handle(15.1, "b").broken()) is not late


@pytest.mark.parametrize("in_doubt", [True, False])
def test_dead_letter_may_have_been_completed_by_a_transaction_that_was_not_answered(*, in_doubt: bool) -> None:
    story = two().claim(2.0, attempt=3).mark(2.2, "a")
    facts: dict[str, Any] = {"worker": "w1", "token": story.tokens["w1"], "error": "no answer", "began_at": 2.1}
    unanswered = SettleFailed(
        at=2.4, event_id="a", outcome=Outcome.COMPLETE, by_handler=True, maybe_applied=in_doubt, **facts
    )
    story.add(unanswered).fail(2.5, "a").add(Skipped(at=14.0, event_id="a")).pop(14.1)
    assert ("A" in story.claim(15.0).handle(15.1, "b").broken()) is not in_doubt


def test_queue_that_is_gone_tells_nobody_who_took_its_last_event() -> None:
    for ids, broken in (("a",), ""), (("a", "b"), "F"):
        story = LineBuilder().emit(0.5, *ids).claim(2.0).start(2.1, "a")
        token = story.tokens["w1"]
        assert story.queue is not None
        story.change(12.2, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_200), "w2")
        story.claim(12.5, "w2", attempt=2).handle(12.6, "a", "w2").end(13.1, "a", token=token)
        story.settle(13.3, "a", began_at=13.15, token=token)
        if "b" in ids:
            story.claim(14.0).handle(14.1, "b")
        assert story.broken() == broken


@pytest.mark.parametrize("kind", [ReplyLost, RequestFailed])
def test_answer_that_leaves_open_who_took_the_event_explains_a_late_outcome(kind: Any) -> None:
    for at, broken in ((13.2, ""), (13.4, "F")):
        story = LineBuilder().emit(0.5, "a", "b").claim(2.0).start(2.1, "a")
        token = story.tokens["w1"]
        assert story.queue is not None
        story.change(12.2, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_200), "w2")
        story.claim(12.5, "w2", attempt=2).handle(12.6, "a", "w2").end(13.1, "a", token=token)
        story.add(kind(at=at, operation="update_item", event_ids=(f"dynamodb-outbox-key/{KEY}",)))
        story.settle(13.3, "a", began_at=13.15, token=token).claim(14.0).handle(14.1, "b")
        assert story.broken() == broken


def test_mark_of_a_worker_that_never_had_the_event_is_found() -> None:
    story = two().claim(2.0).start(2.1, "a").end(2.2, "a").mark(2.3, "a", "w2").pop(2.4).settle(2.5, "a")
    assert story.claim(3.0).handle(3.1, "b").broken() == "F"


@pytest.mark.parametrize("retries", [0, 2])
def test_late_mark_of_a_dead_letter_has_the_retries_that_its_worker_knew(retries: int) -> None:
    story = two(skips_failed=True).claim(2.0).start(2.1, "a").end(2.2, "a", result="failed")
    assert story.queue is not None
    story.change(12.1, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_100), "w2")
    story.events["a"] = replace(story.events["a"], retry_count=0)
    failed = replace(story.events["a"], status="FAILED", waits=False, indexed=True, sort_key=2_200, retry_count=retries)
    story.write(12.3, "a", failed, "w1").claim(12.5, "w2", event_id="a", attempt=2).pop(12.9, "w2")
    story.claim(13.5, "w2").handle(13.6, "b", "w2")
    # No worker knew of two retries.
    assert ("R" in story.broken()) is (retries > 0)


@pytest.mark.parametrize("stored_again", [True, False])
def test_event_whose_item_was_deleted_during_its_attempt_may_come_again(*, stored_again: bool) -> None:
    story = LineBuilder().emit(0.5, "a").claim(2.0).start(2.1, "a")
    story.add(ItemDeleted(at=2.2, event_id="a")).write(2.2, "a", None).end(3.1, "a").pop(3.2)
    if stored_again:
        story.ask(2.15, "a").put(3.3, "a", "emitter").append(3.4, "a")
    # The settle began after the deletion, and was answered after the event was stored again.
    story.settle(3.6, "a", began_at=3.15)
    if stored_again:
        story.claim(4.0, "w2").handle(4.1, "a", "w2")
    else:
        story.claimed(4.0, "a", "w2", token="t")
    assert ("A" in story.broken()) is not stored_again


@pytest.mark.parametrize("was_in_flight", [True, False])
def test_event_whose_item_was_deleted_during_its_attempt_may_be_stored_by_a_late_request(
    *, was_in_flight: bool
) -> None:
    story = LineBuilder().emit(0.5, "a").claim(2.0).start(2.1, "a")
    story.add(ItemDeleted(at=2.2, event_id="a")).write(2.2, "a", None).end(3.1, "a").pop(3.2)
    story.settle(3.6, "a", began_at=3.15)
    if was_in_flight:
        story.add(ReplyLost(at=0.4, operation="put_item", event_ids=("a",)))
    story.put(4.0, "a", "emitter")
    assert ("A" in story.broken()) is not was_in_flight


@with_and_without_log
def test_event_without_a_key_keeps_none_when_an_emit_of_its_id_with_a_key_is_refused(*, log: bool) -> None:
    """Two processes that are clones may make the same id."""
    story = LineBuilder(log=log).emit(0.5, "b").ask(0.9, "a")
    story.write(1.0, "a", Stored(event_id="a", status="PENDING", retry_count=0, sort_key=1_000))
    claimed = Stored(event_id="a", status="PROCESSING", retry_count=0, sort_key=12_000, token="t")
    story.write(2.0, "a", claimed, "w1").claimed(2.1, "a", token="t").start(2.2, "a").end(2.3, "a")
    story.write(2.4, "a", replace(claimed, status="COMPLETED", sort_key=None, indexed=False), "w1").settle(2.5, "a")
    assert "O" not in story.broken()


@pytest.mark.parametrize("was_deleted", [True, False])
def test_event_that_comes_back_to_its_queue_has_the_retries_of_the_queue(*, was_deleted: bool) -> None:
    story = LineBuilder().emit(0.5, "a").claim(2.0).start(2.1, "a").write(2.2, "a", None)
    story.add(WorkerKilled(at=2.3, worker="w1"))
    if was_deleted:
        story.add(ItemDeleted(at=2.2, event_id="a"))
    assert story.queue is not None
    story.change(12.2, replace(story.queue, status="PENDING", retry_count=1, sort_key=12_200), "w2")
    story.add(Recovered(at=12.3, event_id="a", worker="w2", failed=False, began_at=12.1))
    story.ask(12.5, "a").put(12.6, "a").add(EmitAcknowledged(at=12.7, event_id="a"))
    story.claim(13.0, "w2", attempt=2).handle(13.1, "a", "w2")
    assert ("R" in story.broken()) is not was_deleted


def test_lost_reply_about_a_queue_explains_a_second_call() -> None:
    def story(key: str) -> LineBuilder:
        made = two(log=False).claim(2.0).start(2.1, "a").end(2.2, "a")
        made.add(ReplyLost(at=2.3, operation="UpdateItem", event_ids=(f"dynamodb-outbox-key/{key}",)))
        made.claimed(2.6, "a", "w2", token="t", attempt=2)
        return made.start(2.7, "a", "w2").end(2.8, "a", "w2").mark(2.9, "a").settle(3.0, "a", worker="w2", attempt=2)

    assert "D" not in story(KEY).broken()
    assert "D" in story("another").broken()


def test_options_of_workers_are_those_of_the_records() -> None:
    started = [record for record in two(skips_failed=True).records if isinstance(record, WorkerStarted)]
    assert all(start.skips_failed for start in started)
