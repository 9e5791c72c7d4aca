"""What usually happens breaks no invariant, and a violation is printed with its history."""

from __future__ import annotations

import pytest

from reliability.checker import report
from reliability.history import EmitAsked
from tests.reliability.checker.histories import dead, delivered, recovered, retried


@pytest.mark.parametrize("story", [delivered, recovered, retried, dead], ids=lambda story: story.__name__)
def test_usual_histories_break_nothing(story: object) -> None:
    assert callable(story)
    assert story().violations() == []


def test_violation_is_printed_with_the_history_of_its_event_alone() -> None:
    story = recovered().settle(14.0, "retry", began_at=13.1, delay=1.0)
    story.add(EmitAsked(at=3.0, event_id="another"))
    violations = story.violations()
    told = report(violations, story.records)
    assert "F e: an outcome of w1 was accepted after w2 had claimed it" in told
    assert "Recovered" in told
    assert "another" not in told
