"""Processes that lack the handlers of a type: what the checker says of it, and the simulation of a rolling deploy."""

from __future__ import annotations

import pytest

from reliability.checker import HandlerRule, Limits
from reliability.history import Redriven, Stored
from reliability.simulation.drawing import scenario_of
from reliability.simulation.runs import run_each
from tests.reliability.history_builder import LIMITS, HistoryBuilder, stored

TIMEOUT = 20.0
SEEDS = [seed for seed in range(60) if scenario_of(seed).is_deploying]


def held(since: float | None) -> Stored:
    """A claimed event, and since when it has had no handler (seconds)."""
    millis = None if since is None else int(since * 1000)
    return stored("PROCESSING", sort_key=90.0, token="t1", unhandled_since=millis)


def failed_after(since: float | None, *, timeout: float | None = TIMEOUT, clock_offset: float = 0.0) -> HistoryBuilder:
    """An event that is FAILED at 30 s by a worker that called no handler."""
    story = HistoryBuilder("w1", unhandled_timeout=timeout, clock_offset=clock_offset).emit()
    after = stored("FAILED", sort_key=30.0, token="t1")
    story.write(1.0, None, stored("PENDING", sort_key=1.0)).write(29.9, stored("PENDING", sort_key=1.0), held(since))
    return story.write(30.0, held(since), after, "w1").ends("FAILED", sort_key=30.0, token="t1")


def rules_broken(story: HistoryBuilder, limits: Limits = LIMITS) -> list[str]:
    return [violation.sentence for violation in story.violations(limits) if violation.invariant == "R"]


def test_event_that_no_handler_was_called_for_fails_only_after_the_timeout() -> None:
    assert rules_broken(failed_after(9.9)) == []
    assert "FAILED after 19.0 s" in rules_broken(failed_after(11.0))[0]
    assert "unhandled_timeout of None s" in rules_broken(failed_after(9.9, timeout=None))[0]
    assert "none was missing before" in rules_broken(failed_after(None))[0]
    assert rules_broken(failed_after(11.0, clock_offset=1.0)) == []


def test_event_that_a_handler_was_called_for_is_not_unhandled() -> None:
    assert rules_broken(failed_after(None).start(29.95)) == []
    redriven = failed_after(None).start(0.9).add(Redriven(at=0.95, event_id="e"))
    redriven.write(0.99, stored("FAILED", sort_key=0.9), stored("PENDING", sort_key=0.99))
    assert "none was missing before" in rules_broken(redriven)[-1]


@pytest.mark.parametrize(("own", "handled_by", "broken"), [(1, (), False), (2, (), True), (1, ("h",), True)])
def test_expired_leases_alone_may_use_up_the_retries_of_a_handler(
    own: int, handled_by: tuple[str, ...], *, broken: bool
) -> None:
    waiting = stored("PENDING", retries=2, sort_key=29.0, handled_by=handled_by)
    claimed = stored("PROCESSING", retries=2, sort_key=90.0, token="t2", handled_by=handled_by)
    failed = stored("FAILED", retries=2, sort_key=30.0, token="t2", handled_by=handled_by)
    story = HistoryBuilder("w1").emit().write(1.0, None, stored("PENDING", sort_key=1.0)).start(2.0)
    story.write(3.0, stored("FAILED", sort_key=2.5), stored("PENDING", sort_key=3.0))
    story.write(29.9, waiting, claimed).write(30.0, claimed, failed, "w1")
    limits = Limits(handlers={"h": HandlerRule(max_retries=own)})
    assert any("none was missing" in each for each in rules_broken(story, limits)) is broken


@pytest.mark.parametrize("since", [9.9, None])
def test_holder_that_fails_an_unhandled_event_after_its_recovery_knew_since_when(since: float | None) -> None:
    # The clock of the worker that recovers it is ahead.
    again = stored("PENDING", retries=1, sort_key=44.0, token="t1")
    story = HistoryBuilder("w1", unhandled_timeout=TIMEOUT).emit().write(1.0, None, stored("PENDING", sort_key=1.0))
    story.write(29.8, stored("PENDING", sort_key=1.0), held(since), "w1").write(29.9, held(since), again, "w2")
    story.write(30.0, again, stored("FAILED", retries=1, sort_key=30.0, token="t1"), "w1")
    broken = rules_broken(story.ends("FAILED", retries=1, sort_key=30.0, token="t1"))
    assert any("none was missing before" in each for each in broken) is (since is None)


@pytest.mark.parametrize(("later", "broken"), [(3000, False), (4000, True), (None, False)])
def test_release_keeps_the_time_since_when_the_event_is_unhandled(later: int | None, *, broken: bool) -> None:
    released = stored("PENDING", sort_key=6.0, token="t1", unhandled_since=later)
    story = HistoryBuilder().emit().write(1.0, None, stored("PENDING", sort_key=1.0))
    story.write(4.0, stored("PENDING", sort_key=1.0), held(3.0)).write(5.0, held(3.0), released)
    assert bool(rules_broken(story.ends("PENDING", sort_key=6.0, token="t1"))) is broken


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_deploy_counts_no_attempt_and_fails_no_event() -> None:
    assert len(SEEDS) > 5
    broken = {result.seed: [str(found) for found in result.violations] for result in run_each(SEEDS)}
    assert {seed: found for seed, found in broken.items() if found} == {}
