"""The results of a measurement: runs of the library, each next to its baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.measure import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: the usage of the library for a number of events, and the usage of the baseline for the same events."""

    events: int
    ours: Usage
    baseline: Usage
    requests: int

    @classmethod
    def of(cls, pieces: Sequence[Run]) -> Run:
        """Join pieces that were measured one after the other."""
        return cls(
            events=sum(piece.events for piece in pieces),
            ours=Usage.of([piece.ours for piece in pieces]),
            baseline=Usage.of([piece.baseline for piece in pieces]),
            requests=sum(piece.requests for piece in pieces),
        )

    @property
    def cpu_each(self) -> float:
        """Microseconds of CPU per event."""
        return self.ours.cpu / self.events * 1e6

    @property
    def ratio(self) -> float:
        """The CPU of the library divided by the CPU of the baseline."""
        return self.ours.cpu / self.baseline.cpu


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The runs of one measurement. A ratio is computed within each run; the result is the median of the ratios."""

    name: str
    baseline: str
    runs: list[Run] = field(default_factory=list[Run])

    def median(self, figure: Callable[[Run], float]) -> float:
        """Return the median of a figure over the runs."""
        return median(map(figure, self.runs))

    @property
    def cpu(self) -> float:
        """Microseconds of CPU per event, of the library."""
        return self.median(lambda run: run.cpu_each)

    @property
    def baseline_cpu(self) -> float:
        """Microseconds of CPU per event, of the baseline."""
        return self.median(lambda run: run.baseline.cpu / run.events * 1e6)

    @property
    def ratio(self) -> float:
        """The CPU of the library divided by the CPU of the baseline."""
        return self.median(lambda run: run.ratio)

    @property
    def rate(self) -> float:
        """Events per second, of the library."""
        return self.median(lambda run: run.events / run.ours.seconds)

    @property
    def baseline_rate(self) -> float:
        """Events per second, of the baseline."""
        return self.median(lambda run: run.events / run.baseline.seconds)

    @property
    def requests(self) -> float:
        """Requests per event."""
        return self.median(lambda run: run.requests / run.events)

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        figures = ("cpu", "baseline_cpu", "ratio", "rate", "baseline_rate", "requests")
        return {
            "name": self.name,
            "baseline": self.baseline,
            **{figure: round(getattr(self, figure), 4) for figure in figures},
            "ratios": [round(run.ratio, 3) for run in self.runs],
        }
