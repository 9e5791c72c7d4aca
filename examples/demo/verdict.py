"""The verdict: whether every event ended as it should, and why some were handled twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from examples.demo.ledger import Execution, Ledger

COMPLETED = "COMPLETED"
FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The end of the worker that was killed; `at` in epoch seconds."""

    pid: int
    at: float
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the events; ids where a count would not help to find out why."""

    expected: int
    emitted: int
    completed: int
    failed: tuple[str, ...]
    lost: tuple[str, ...]
    duplicates: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether every event was emitted and completed, and every duplicate is explained by the kill."""
        return self.expected == self.emitted == self.completed and not (self.failed or self.lost or self.unexplained)

    @property
    def exit_code(self) -> int:
        """What the demo tells its caller."""
        return 0 if self.good else 1

    @property
    def line(self) -> str:
        """The line for machines."""
        return (
            f"demo: emitted={self.emitted} completed={self.completed} failed={len(self.failed)} "
            f"lost={len(self.lost)} duplicates={len(self.duplicates)}"
        )


def judge(*, expected: int, ledger: Ledger, statuses: Mapping[str, str], kill: Kill | None) -> Verdict:
    """Compare what was emitted and done with the statuses in the table, by event id.

    An event is lost if it is neither COMPLETED nor FAILED, or COMPLETED though its handler never succeeded. It
    is a duplicate if it was handled again though no earlier failure asked for that.
    """
    handled = {event_id for event_id in ledger.event_ids if ledger.was_handled(event_id)}
    completed = {event_id for event_id in ledger.emitted & handled if statuses.get(event_id) == COMPLETED}
    failed = {event_id for event_id in ledger.emitted if statuses.get(event_id) == FAILED}
    causes = {event_id: _causes_of_repeats(ledger.executions(event_id)) for event_id in ledger.event_ids}
    duplicates = {event_id for event_id, pairs in causes.items() if pairs}
    return Verdict(
        expected=expected,
        emitted=len(ledger.emitted),
        completed=len(completed),
        failed=tuple(sorted(failed)),
        lost=tuple(sorted(ledger.emitted - completed - failed)),
        duplicates=tuple(sorted(duplicates)),
        unexplained=tuple(
            sorted(one for one in duplicates if not all(_explained(*pair, kill) for pair in causes[one]))
        ),
    )


def _causes_of_repeats(executions: list[Execution]) -> list[tuple[Execution, Execution]]:
    """Pair each execution with those before it that had not failed by then: they should have been the last."""
    return [
        (earlier, later)
        for index, later in enumerate(executions)
        for earlier in executions[:index]
        if not earlier.failed_before(later.started)
    ]


def _explained(earlier: Execution, later: Execution, kill: Kill | None) -> bool:
    # The killed worker may have died before or after the handler's end; nobody could know, so it ran again.
    return kill is not None and earlier.pid == kill.pid and later.started > kill.at
