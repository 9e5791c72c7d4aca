"""Windows: an event that is claimed and in no index is found by its window, and recovered only by who took it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import pytest

from dynamodb_outbox.event_ids import numbered_id
from reliability.history import (
    Claimed,
    EmitAcknowledged,
    EmitAsked,
    EmitUnknown,
    ErrorReported,
    FaultEnded,
    Stored,
    StoredWindow,
    StoringRequest,
    WorkerKilled,
    WorkerResumed,
    WorkerStopped,
    Written,
)
from tests.reliability.history_builder import LEASE, HistoryBuilder, stored, token_of

SEED = b"seed"
ID = numbered_id(SEED, 7)


def opened(holder: str = "a", *, start: int = 5, end: int = 10, until: float = LEASE, **facts: Any) -> StoredWindow:
    """A window, whose lease ends at a second."""
    facts = {"status": "WINDOW", **facts}
    return StoredWindow(
        window="w", token=holder, seed=SEED.hex(), start=start, end=end, sort_key=round(until * 1000), **facts
    )


def closed(window: StoredWindow) -> StoredWindow:
    return replace(window, status="VOID", sort_key=None)


def unlisted(status: str = "PROCESSING", **facts: Any) -> Stored:
    """The event of number 7 as its worker has stored it."""
    facts = {"token": token_of("w1", 1), "window": "w", "event_id": ID, "indexed": False, **facts}
    return stored(status, **facts)


def listed(**facts: Any) -> Stored:
    """The event after its recovery."""
    return unlisted("PENDING", retries=1, sort_key=99.0, indexed=True, **facts)


class WindowStory(HistoryBuilder):
    """A worker opens a window and emits an event in it, which is acknowledged at 2.0."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.window(1.0, None, opened())
        self.add(EmitAsked(at=1.5, event_id=ID, worker="w1"))
        self.change(1.9, None, unlisted())
        self.add(EmitAcknowledged(at=2.0, event_id=ID, worker="w1"))

    def change(self, at: float, before: Stored | None, after: Stored | None, worker: str = "w1") -> Self:
        self.add(Written(at=at, event_id=ID, before=before, after=after, worker=worker))
        return self

    def found(self) -> set[str]:
        """What is said of windows, with the letters."""
        return {f"{violation.invariant} {violation.sentence}" for violation in self.violations()}

    def ended(self, last: Stored) -> Self:
        self.final = {ID: last}
        return self


def completed(story: WindowStory, at: float = 3.0) -> WindowStory:
    done = unlisted("COMPLETED")
    story.change(at, unlisted(), done)
    story.final = {ID: replace(done, handled_by=())}
    return story


def letters(story: WindowStory, *, about: str) -> str:
    """The letters of the violations that speak of something."""
    return "".join(sorted({found[0] for found in story.found() if about in found}))


def test_event_is_covered_until_its_end() -> None:
    story = completed(WindowStory())
    assert letters(story, about="window") == ""
    # It may be passed, and the window deleted, once the event has ended.
    story.window(4.0, opened(), opened(start=8, end=20)).window(5.0, opened(start=8, end=20), None)
    assert letters(story, about="window") == ""


@pytest.mark.parametrize(
    ("at", "after"),
    [
        (2.5, opened(start=8)),
        (2.5, None),
        (1.95, opened(start=8)),
        (2.5, closed(opened())),
    ],
    ids=["passed", "deleted", "passed before it is acknowledged", "closed"],
)
def test_acknowledged_event_must_be_covered_at_every_moment(at: float, after: StoredWindow | None) -> None:
    story = completed(WindowStory().window(at, opened(), after))
    assert "L" in letters(story, about="does not cover")


def test_event_outside_of_the_range_is_not_covered() -> None:
    story = HistoryBuilder()
    story.window(1.0, None, opened(start=8))
    story.add(EmitAsked(at=1.5, event_id=ID), EmitAcknowledged(at=2.0, event_id=ID))
    story.add(Written(at=1.9, event_id=ID, before=None, after=unlisted(), worker="w1"))
    assert any("does not cover" in str(violation) for violation in story.violations())


def test_event_that_is_not_acknowledged_need_not_be_covered() -> None:
    story = HistoryBuilder()
    story.window(1.0, None, opened()).window(2.0, opened(), None)
    story.add(EmitAsked(at=1.5, event_id=ID))
    story.add(Written(at=1.9, event_id=ID, before=None, after=unlisted(), worker="w1"))
    assert not any("does not cover" in str(violation) for violation in story.violations())


def test_window_is_taken_only_when_its_lease_has_run_out() -> None:
    early = WindowStory().window(9.0, opened(), opened("b", until=20.0), "w2")
    assert letters(early, about="before its lease ran out") == "F"
    late = WindowStory().window(10.5, opened(), opened("b", until=20.0), "w2")
    assert letters(late, about="before its lease ran out") == ""
    fast = WindowStory(clock_offset=2.0).window(9.0, opened(), opened("b", until=20.0), "w2")
    assert letters(fast, about="before its lease ran out") == ""


@pytest.mark.parametrize(
    ("before", "after", "about"),
    [
        (opened(), opened(start=4), "its numbers went from"),
        (opened(), opened(end=9), "its numbers went from"),
        (closed(opened()), opened(), "it was recovered, and changed again"),
        (closed(opened()), None, "it was recovered, and changed again"),
        (opened("b"), None, "it was deleted after it was taken"),
        (None, closed(opened()), "it was stored as recovered"),
        (opened(until=1.0), opened("b", end=11), "its numbers changed"),
    ],
)
def test_change_that_no_transition_makes_is_found(
    before: StoredWindow | None, after: StoredWindow | None, about: str
) -> None:
    story = completed(WindowStory().window(4.0, before, after))
    assert letters(story, about=about) == "F"


def recovered(*, taken: bool, **facts: Any) -> WindowStory:
    story = WindowStory(**facts)
    if taken:
        story.window(10.5, opened(), opened("b", until=20.0), "w2")
    return story.change(12.0, unlisted(), listed(), "w2").ended(listed())


def test_event_is_recovered_by_the_worker_that_took_its_window() -> None:
    assert recovered(taken=True).found() == set()
    without = recovered(taken=False)
    assert letters(without, about="without taking its window") == "F"
    assert letters(without, about="neither a failure nor an expiry") == "R"


def test_event_whose_write_was_not_answered_is_entered_before_the_emit_of_its_list_ends() -> None:
    story = recovered(taken=False).add(EmitUnknown(at=13.0, event_id=ID, worker="w1", error="UnavailableError: no"))
    assert letters(story, about="neither a failure nor an expiry") == "R"
    request = StoringRequest(at=11.0, began_at=9.0, operation="put_item", event_ids=(ID,), worker="w1", error="timeout")
    assert letters(story.add(replace(request, at=12.5)), about="neither a failure nor an expiry") == "R"
    assert letters(story.add(request), about="neither a failure nor an expiry") == ""


def test_event_of_a_window_that_its_worker_has_lost_is_entered_whatever_becomes_of_its_emit() -> None:
    story = recovered(taken=False).add(EmitUnknown(at=13.0, event_id=ID, worker="w1", error="UnavailableError: no"))
    lost = ErrorReported(at=11.0, worker="w2", kind="WindowLostError", text="the window was lost")
    assert letters(story.add(replace(lost, at=12.5)), about="neither a failure nor an expiry") == "R"
    assert letters(story.add(lost), about="neither a failure nor an expiry") == ""


def test_event_that_is_unlisted_at_the_end_needs_an_open_window() -> None:
    story = WindowStory().ended(unlisted())
    story.windows = {"w": opened()}
    assert letters(story, about="index") == ""
    story.windows = {}
    assert "L" in letters(story, about="the index does not hold it")


def stopped(*, kill_at: float | None = None) -> WindowStory:
    story = completed(WindowStory()).add(WorkerStopped(at=100.0, worker="w1"))
    end = WorkerKilled(at=kill_at, worker="w2") if kill_at is not None else WorkerStopped(at=100.0, worker="w2")
    story.add(end, FaultEnded(at=5.0, name="f", kind="f"))
    story.windows = {"w": opened()}
    return story


def test_no_window_is_open_after_all_workers_have_stopped() -> None:
    assert letters(stopped(), about="is open") == "S"
    assert letters(stopped(kill_at=20.0), about="is open") == "S"
    # Its lease may not have run out yet, or the recovery is still under way.
    assert letters(stopped(kill_at=95.0), about="is open") == ""
    assert letters(stopped().add(WorkerResumed(at=20.0, worker="w1")), about="is open") == "S"
    assert letters(stopped().add(WorkerResumed(at=95.0, worker="w1")), about="is open") == ""
    # The stop has interrupted a recovery that had just taken the window.
    just_taken = stopped().window(99.0, opened(until=90.0), opened("b", until=110.0))
    assert letters(just_taken, about="is open") == ""
    taken_before = stopped().window(60.0, opened(until=50.0), opened("b", until=70.0))
    assert letters(taken_before, about="is open") == "S"
    just_renewed = stopped().window(99.0, opened(until=90.0), opened(until=110.0))
    assert letters(just_renewed, about="is open") == "S"
    running = WindowStory().ended(unlisted())
    running.windows = {"w": opened()}
    assert letters(running, about="is open") == ""


def test_lost_window_is_the_end_of_its_claims_and_is_reported_once() -> None:
    token = token_of("w1", 1)
    claim = Claimed(at=2.0, event_id=ID, worker="w1", token=token, attempt=1, lease_expires_at=LEASE, on_emit=True)
    story = recovered(taken=True).add(claim, WorkerStopped(at=15.0, worker="w1"))
    assert letters(story, about="without an outcome") == "S"
    lost = ErrorReported(at=11.0, worker="w1", kind="WindowLostError", text="the window was lost")
    assert letters(story.add(replace(lost, worker="w2"), replace(lost, at=1.0)), about="without an outcome") == "S"
    assert letters(story.add(lost), about="without an outcome") == ""


@pytest.mark.parametrize("by", ["w1", "w2"])
def test_emit_may_wait_until_its_event_is_out_of_an_ended_window(by: str) -> None:
    story = HistoryBuilder()
    story.add(EmitAsked(at=1.5, event_id=ID, worker="w1"))
    request = {"operation": "put_item", "event_ids": (ID,), "worker": "w1"}
    story.add(StoringRequest(at=12.0, began_at=1.5, **request))
    story.add(EmitAcknowledged(at=13.0, event_id=ID, worker="w1"))
    assert any("after its own answer" in str(violation) for violation in story.violations())
    story.add(Written(at=12.5, event_id=ID, before=unlisted(), after=listed(), worker=by))
    assert not any("after its own answer" in str(violation) for violation in story.violations())
