"""The ledger: every execution of every event, made of the histories of all processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from examples.demo.history import Record, What


@dataclass(slots=True, kw_only=True)
class Execution:
    """One call of a handler. `result` is None while it runs, and for good if its process was killed."""

    pid: int
    attempt: int
    started: float
    ended: float | None = None
    result: What | None = None

    def failed_before(self, time: float) -> bool:
        """Tell whether it had failed by then, so that a further execution was due."""
        return self.result is What.FAIL and self.ended is not None and self.ended <= time


class Ledger:
    """What was emitted, and what was done about it."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.emitted: set[str] = set()
        self._executions: dict[str, list[Execution]] = {}
        self.add(records)

    def add(self, records: Iterable[Record]) -> None:
        """Enter records; those of one process in their order."""
        for record in records:
            executions = self._executions.setdefault(record.event_id, [])
            match record.what:
                case What.EMITTED:
                    self.emitted.add(record.event_id)
                case What.START:
                    executions.append(Execution(pid=record.pid, attempt=record.attempt, started=record.at))
                case What.DONE | What.FAIL:
                    last = [one for one in executions if one.pid == record.pid and one.result is None][-1]
                    last.ended, last.result = record.at, record.what

    def executions(self, event_id: str) -> list[Execution]:
        """List the executions of an event, in the order of their beginning."""
        return sorted(self._executions.get(event_id, ()), key=lambda execution: execution.started)

    def of_process(self, pid: int) -> list[Execution]:
        """List the executions in a process."""
        return [execution for execution in self._all() if execution.pid == pid]

    def running(self, pid: int) -> int:
        """Count the executions in a process that have begun and not ended."""
        return sum(execution.result is None for execution in self.of_process(pid))

    @property
    def event_ids(self) -> set[str]:
        """The ids of all events that were emitted or handled."""
        return set(self._executions)

    @property
    def handled(self) -> int:
        """The number of events whose handler has succeeded."""
        return sum(self.was_handled(event_id) for event_id in self._executions)

    def was_handled(self, event_id: str) -> bool:
        """Tell whether the event's handler has succeeded."""
        return any(execution.result is What.DONE for execution in self._executions.get(event_id, ()))

    @property
    def retries(self) -> int:
        """The number of attempts that were made because the one before had failed."""
        return sum(self._follows_failure(event_id, later) for event_id, later in self._later_attempts())

    @property
    def recovered(self) -> int:
        """The number of attempts that were made because the one before had never been settled."""
        return sum(not self._follows_failure(event_id, later) for event_id, later in self._later_attempts())

    def _later_attempts(self) -> Iterator[tuple[str, Execution]]:
        for event_id, executions in self._executions.items():
            yield from ((event_id, execution) for execution in executions if execution.attempt > 1)

    def _follows_failure(self, event_id: str, later: Execution) -> bool:
        return any(
            earlier.attempt == later.attempt - 1 and earlier.result is What.FAIL
            for earlier in self._executions[event_id]
        )

    def _all(self) -> Iterator[Execution]:
        for executions in self._executions.values():
            yield from executions
