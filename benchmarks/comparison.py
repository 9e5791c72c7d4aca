"""What a measurement brings: runs of the library, each next to its floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.gauge import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: the library's usage for so many events, and the floor's in turns with it."""

    events: int
    ours: Usage
    floor: Usage
    requests: int

    @classmethod
    def of(cls, pieces: Sequence[Run]) -> Run:
        """Make one run of pieces that were measured one after the other."""
        return cls(
            events=sum(piece.events for piece in pieces),
            ours=Usage.of([piece.ours for piece in pieces]),
            floor=Usage.of([piece.floor for piece in pieces]),
            requests=sum(piece.requests for piece in pieces),
        )

    @property
    def cpu_each(self) -> float:
        """Microseconds of CPU an event."""
        return self.ours.cpu / self.events * 1e6

    @property
    def ratio(self) -> float:
        """The library's CPU by the floor's."""
        return self.ours.cpu / self.floor.cpu


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The runs of one measurement. Ratios are made within a run, and their median is taken."""

    name: str
    floor: str
    runs: list[Run] = field(default_factory=list[Run])

    def median(self, figure: Callable[[Run], float]) -> float:
        """Take the median of a figure over the runs."""
        return median(map(figure, self.runs))

    @property
    def cpu(self) -> float:
        """Microseconds of CPU an event."""
        return self.median(lambda run: run.cpu_each)

    @property
    def floor_cpu(self) -> float:
        """Microseconds of CPU an event, of the floor."""
        return self.median(lambda run: run.floor.cpu / run.events * 1e6)

    @property
    def ratio(self) -> float:
        """The library's CPU by the floor's."""
        return self.median(lambda run: run.ratio)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.median(lambda run: run.events / run.ours.seconds)

    @property
    def floor_rate(self) -> float:
        """Events a second, of the floor."""
        return self.median(lambda run: run.events / run.floor.seconds)

    @property
    def requests(self) -> float:
        """Requests an event."""
        return self.median(lambda run: run.requests / run.events)

    def as_json(self) -> dict[str, Any]:
        """Give what stands in the results file."""
        figures = ("cpu", "floor_cpu", "ratio", "rate", "floor_rate", "requests")
        return {
            "name": self.name,
            "floor": self.floor,
            **{figure: round(getattr(self, figure), 4) for figure in figures},
            "ratios": [round(run.ratio, 3) for run in self.runs],
        }
