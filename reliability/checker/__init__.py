"""Checks histories against the invariants of the library.

Each invariant has a module, whose docstrings state its rules.
"""

from __future__ import annotations

from reliability.checker.calls import check_calls
from reliability.checker.duplicates import check_duplicates
from reliability.checker.emits import check_emits
from reliability.checker.fencing import check_fencing
from reliability.checker.finality import check_finality
from reliability.checker.holds import check_holds
from reliability.checker.loss import check_loss
from reliability.checker.order import check_order
from reliability.checker.overlaps import check_overlaps
from reliability.checker.progress import check_progress
from reliability.checker.retries import check_retries
from reliability.checker.stops import check_stops
from reliability.checker.timeline import Timeline
from reliability.checker.unhandled import check_unhandled
from reliability.checker.verdict import HandlerRule, Limits, Violation
from reliability.checker.waits import check_waits
from reliability.checker.windows import check_windows
from reliability.history import FinalState, History

__all__ = ["HandlerRule", "Limits", "Violation", "check", "report"]

_NO_LIMITS = Limits()


def check(history: History, final: FinalState, *, limits: Limits = _NO_LIMITS) -> list[Violation]:
    """Check a history and its final state. The records must be in the order of their times; see `History`."""
    timeline = Timeline(history, final)
    return [
        *check_loss(timeline),
        *check_windows(timeline, limits),
        *check_finality(timeline),
        *check_fencing(timeline, limits),
        *check_holds(timeline, limits),
        *check_retries(timeline, limits),
        *check_waits(timeline, limits),
        *check_unhandled(timeline, limits),
        *check_duplicates(timeline, limits),
        *check_order(timeline, limits),
        *check_overlaps(timeline, limits),
        *check_emits(timeline, limits),
        *check_progress(timeline, limits),
        *check_stops(timeline),
        *check_calls(timeline, limits),
    ]


def report(violations: list[Violation], history: History, *, most: int = 5) -> str:
    """Describe violations, the first few with their histories."""
    told = [violation.told(history) for violation in violations[:most]]
    told += [str(violation) for violation in violations[most:]]
    return "\n\n".join(told)
