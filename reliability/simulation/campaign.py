"""Runs many seeds in several processes, and collects the results."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from reliability.checker import report
from reliability.simulation.faults import Kind
from reliability.simulation.result import Result
from reliability.simulation.runs import run_each

CHUNK: Final = 10
MOST_RECORDS: Final = 20_000
"""The maximum length of a reported failure, because histories may be long."""


@dataclass(slots=True)
class Summary:
    """The contents of some runs, and their failures by seed."""

    runs: int = 0
    seconds: float = 0.0
    events: int = 0
    calls: int = 0
    faults: Counter[Kind] = field(default_factory=Counter[Kind])
    failures: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, result: Result) -> None:
        """Add a run."""
        self.runs += 1
        self.seconds += result.seconds
        self.events += result.events
        self.calls += result.calls
        self.faults.update(result.faults)
        if result.violations:
            self.failures[result.seed] = report(list(result.violations), result.history, most=2)[:MOST_RECORDS]

    def join(self, other: Summary) -> None:
        """Add the runs of another summary."""
        self.runs += other.runs
        self.seconds += other.seconds
        self.events += other.events
        self.calls += other.calls
        self.faults.update(other.faults)
        self.failures.update(other.failures)


def summary_of(seeds: Sequence[int], *, has_keys: bool = False) -> Summary:
    """Run seeds in this process, one after the other. An exception in a run is a failure of its seed."""
    summary = Summary()
    left = list(seeds)
    while left:
        try:
            for result in run_each(tuple(left), has_keys=has_keys):
                left.pop(0)
                summary.add(result)
        except Exception:  # any error of a run is a failure of its seed
            summary.runs += 1
            summary.failures[left.pop(0)] = traceback.format_exc()
    return summary


def summaries_of(seeds: range, *, processes: int | None = None, has_keys: bool = False) -> Iterator[Summary]:
    """Run seeds in several processes, by default one for each core; yield a summary for every few seeds."""
    summarize = partial(summary_of, has_keys=has_keys)
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    count = min(processes or os.cpu_count() or 1, len(chunks))
    if count <= 1:
        yield from map(summarize, chunks)
        return
    # Forked processes would inherit the open files of the parent.
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield from pool.imap_unordered(summarize, chunks)
