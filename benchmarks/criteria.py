"""What the library promises of its cost, and whether a run kept it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.accounting import Units
from benchmarks.comparison import Comparison
from benchmarks.latency import LatencyRun
from benchmarks.processes import BacklogRun, WorkersRun
from benchmarks.suite import Results

TOLERANCE: Final = 1.5
"""A quick run fails only where a promise is missed by more than half: it shares its machine with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A figure and its limit. `number` groups those that belong together; `exact` ones have no tolerance."""

    number: int
    promise: str
    figure: float
    limit: float
    exact: bool = False

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return self.figure == self.limit if self.exact else self.figure <= self.limit

    @property
    def failed(self) -> bool:
        """Whether it was missed by more than half."""
        return not self.kept if self.exact else self.figure > self.limit * TOLERANCE


def judge(results: Results) -> list[Criterion]:
    """Compare what was measured with what is promised."""
    return [
        *_of_cpu(results.comparisons),
        *_of_units(results.units),
        *_of_workers(results.workers),
        *_of_latency(results.latencies),
        *_of_backlogs(results.backlogs),
    ]


def _of_cpu(found: dict[str, Comparison]) -> Iterator[Criterion]:
    if "deliver, batch" in found:
        batch, single = found["deliver, batch"], found["deliver, single"]
        fifth = median(ours.cpu_each / other.cpu_each for ours, other in zip(batch.runs, single.runs, strict=True))
        yield Criterion(number=1, promise="deliver, batch: CPU by the floor's", figure=batch.ratio, limit=1.4)
        yield Criterion(number=1, promise="deliver, batch: CPU by single's", figure=fifth, limit=0.2)
    if "emit_many" in found:
        many, at_once = found["emit_many"], found["emit, 100 at once, by puts"]
        yield Criterion(number=2, promise="emit_many: CPU by BatchWriteItem's", figure=many.ratio, limit=1.4)
        yield Criterion(number=2, promise="100 emitters: CPU by one PutItem an event", figure=at_once.ratio, limit=0.25)


def _of_units(units: dict[str, Units]) -> Iterator[Criterion]:
    for name, each in units.items():
        limit = 7 if name.startswith("polled") else 4
        yield Criterion(number=3, promise=f"write units: {name}", figure=each.written, limit=limit, exact=True)


def _of_workers(runs: list[WorkersRun]) -> Iterator[Criterion]:
    for run in runs[-1:]:
        what = f"{run.workers} workers, {run.events} events"
        yield Criterion(number=4, promise=f"{what}: refused claims", figure=run.refused_share, limit=0.02)
        yield Criterion(number=4, promise=f"{what}: handled twice", figure=run.handled_twice, limit=0, exact=True)


def _of_latency(latencies: dict[str, list[LatencyRun]]) -> Iterator[Criterion]:
    if born := latencies.get("claimed at birth"):
        half, most = median(run.p50_ratio for run in born), median(run.p99_ratio for run in born)
        yield Criterion(number=5, promise="latency at birth: p50 by a put's", figure=half, limit=1.5)
        yield Criterion(number=5, promise="latency at birth: p99 by a put's", figure=most, limit=6)
    if polled := latencies.get("polled"):
        half = median(run.p50_ratio for run in polled)
        yield Criterion(number=5, promise="latency polled: p50 by a put's", figure=half, limit=4)


def _of_backlogs(runs: list[BacklogRun]) -> Iterator[Criterion]:
    if len(runs) > 1:
        small, large = runs[0], runs[-1]
        more = large.peak_megabytes - small.peak_megabytes
        cpu = abs(large.cpu / small.cpu - 1)
        what = f"{large.events:,} events, and {small.events:,}"
        yield Criterion(number=6, promise=f"{what}: more peak memory, MB", figure=more, limit=60)
        yield Criterion(number=6, promise=f"{what}: difference of CPU", figure=cpu, limit=0.15)
