"""Compares the measured costs with the promises of the library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.accounting import Units
from benchmarks.comparison import Comparison
from benchmarks.latency import LatencyRun
from benchmarks.ordered import PROMISED
from benchmarks.partitions import OFFERED, ShardsRun
from benchmarks.processes import BacklogRun, WorkersRun
from benchmarks.publishing import SAME_REQUESTS
from benchmarks.recoveries import RecoveryRun
from benchmarks.samples import SampleRun
from benchmarks.suite import Results
from benchmarks.units import Projection

TOLERANCE: Final = 1.5
"""A quick run shares its machine with other work, so it fails only if a promise is missed by more than half."""

SHARDS_COMPARED: Final = 8
UNITS: Final = {
    "polled": 7,
    "claimed on emit": 4,
    "in a window": 2,
    "with a key, claimed on emit": 6,
    "with a key, polled": 9,
    "with a key, busy, ALL": 7,
    "with a key, busy, KEYS_ONLY": 6,
}
"""Write units of an event of at most 1 KB."""
TELEMETRY: Final = {"recording": 1.3, "not set up": 1.02}
"""The CPU of a delivery by the CPU of the same delivery without `instrument`."""
SAMPLE_UNITS: Final[dict[Projection, float]] = {"ALL": 70.0, "KEYS_ONLY": 15.0}
"""Read units of a sample of half-kilobyte events, however many there are: 1,000 rows, and half a unit a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A figure and its limit: an upper limit, or a lower limit with `at_least`.

    An `exact` criterion has no tolerance. `number` groups related criteria.
    """

    number: int
    promise: str
    figure: float
    limit: float
    exact: bool = False
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        if self.exact:
            return self.figure == self.limit
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    @property
    def failed(self) -> bool:
        """Whether the promise was missed by more than half."""
        if self.exact:
            return not self.kept
        return self.figure < self.limit / TOLERANCE if self.at_least else self.figure > self.limit * TOLERANCE


def judge(results: Results) -> list[Criterion]:
    """Compare the results with the promises."""
    return [
        *_of_cpu(results.comparisons),
        *_of_units(results.units),
        *_of_workers(results.workers),
        *_of_latency(results.latencies),
        *_of_backlogs(results.backlogs),
        *_of_shards(results.shards),
        *_of_windows(results.comparisons),
        *_of_recoveries(results.recoveries),
        *_of_in_process(results.in_process),
        *_of_telemetry(results.comparisons),
        *_of_samples(results.samples),
        *_of_keys(results.comparisons),
        *_of_publishing(results.comparisons),
    ]


def _of_cpu(found: dict[str, Comparison]) -> Iterator[Criterion]:
    if "deliver, batch" in found:
        batch, single = found["deliver, batch"], found["deliver, single"]
        fifth = median(ours.cpu_each / other.cpu_each for ours, other in zip(batch.runs, single.runs, strict=True))
        yield Criterion(number=1, promise="deliver, batch: CPU by the baseline", figure=batch.ratio, limit=1.4)
        yield Criterion(number=1, promise="deliver, batch: CPU by single writes", figure=fifth, limit=0.2)
    if "emit_many" in found:
        many, at_once = found["emit_many"], found["emit, 100 at once, by puts"]
        yield Criterion(number=2, promise="emit_many: CPU by BatchWriteItem", figure=many.ratio, limit=1.4)
        yield Criterion(number=2, promise="100 emitters: CPU by PutItem", figure=at_once.ratio, limit=0.25)


def _of_units(units: dict[str, Units]) -> Iterator[Criterion]:
    for name, each in units.items():
        limit = next(units for kind, units in UNITS.items() if name.startswith(f"{kind},"))
        yield Criterion(number=3, promise=f"write units: {name}", figure=each.written, limit=limit, exact=True)


def _of_workers(runs: list[WorkersRun]) -> Iterator[Criterion]:
    if runs:
        most = [run for run in runs if run.workers == runs[-1].workers]
        what = f"{most[0].workers} workers, {most[0].events} events"
        refused, twice = median(run.refused_share for run in most), sum(run.handled_twice for run in most)
        yield Criterion(number=4, promise=f"{what}: refused claims", figure=refused, limit=0.02)
        yield Criterion(number=4, promise=f"{what}: handled twice", figure=twice, limit=0, exact=True)


def _of_latency(latencies: dict[str, list[LatencyRun]]) -> Iterator[Criterion]:
    if window := latencies.get("in a window"):
        half = median(run.p50_ratio for run in window)
        yield Criterion(number=5, promise="latency in a window: p50 by a put", figure=half, limit=1.2)
    if on_emit := latencies.get("claimed on emit"):
        half, most = median(run.p50_ratio for run in on_emit), median(run.p99_ratio for run in on_emit)
        yield Criterion(number=5, promise="latency on emit: p50 by a put", figure=half, limit=1.5)
        yield Criterion(number=5, promise="latency on emit: p99 by a put", figure=most, limit=6)
    if polled := latencies.get("polled"):
        half = median(run.p50_ratio for run in polled)
        yield Criterion(number=5, promise="latency polled: p50 by a put", figure=half, limit=4)


def _of_backlogs(runs: list[BacklogRun]) -> Iterator[Criterion]:
    if len(runs) > 1:
        small, large = runs[0], runs[-1]
        more = large.peak_megabytes - small.peak_megabytes
        cpu = abs(large.cpu / small.cpu - 1)
        what = f"{large.events:,} events, and {small.events:,}"
        yield Criterion(number=6, promise=f"{what}: more peak memory, MB", figure=more, limit=60)
        yield Criterion(number=6, promise=f"{what}: difference of CPU", figure=cpu, limit=0.15)


def _of_shards(runs: list[ShardsRun]) -> Iterator[Criterion]:
    by_count = {run.shards: run for run in runs}
    one, several = by_count.get(1), by_count.get(SHARDS_COMPARED)
    if one and several:
        more = several.per_second / one.per_second
        yield Criterion(
            number=7, promise=f"{SHARDS_COMPARED} shards: events/s by one shard", figure=more, limit=6.5, at_least=True
        )
        gone = sum(run.lost + run.leases_lost + run.settles_failed for run in runs)
        yield Criterion(number=7, promise="at the limit: lost, or settled too late", figure=gone, limit=0, exact=True)


def _of_windows(found: dict[str, Comparison]) -> Iterator[Criterion]:
    for name in ("on emit, one by one", "on emit, 25 at once"):
        if inside := found.get(f"{name}, in a window"):
            listed = found[f"{name}, in the index"]
            pairs = zip(inside.runs, listed.runs, strict=True)
            ratio = median(ours.cpu_each / other.cpu_each for ours, other in pairs)
            yield Criterion(number=8, promise=f"{name}: CPU in a window by the index", figure=ratio, limit=1.1)


def _of_telemetry(found: dict[str, Comparison]) -> Iterator[Criterion]:
    for name, comparison in found.items():
        sdk, _, flow = name.removeprefix("OpenTelemetry ").partition(": ")
        if sdk in TELEMETRY:
            promise = f"{flow}, OpenTelemetry {sdk}: CPU by none"
            yield Criterion(number=11, promise=promise, figure=comparison.ratio, limit=TELEMETRY[sdk])


def _of_keys(found: dict[str, Comparison]) -> Iterator[Criterion]:
    if ordered := found.get(PROMISED):
        yield Criterion(number=13, promise=f"{PROMISED}: CPU by the baseline", figure=ordered.ratio, limit=1.4)


def _of_publishing(found: dict[str, Comparison]) -> Iterator[Criterion]:
    if published := found.get(SAME_REQUESTS):
        yield Criterion(number=14, promise=f"{SAME_REQUESTS}: CPU by the baseline", figure=published.ratio, limit=1.5)
        yield Criterion(
            number=14, promise=f"{SAME_REQUESTS}: its requests by event", figure=published.requests, limit=0.12
        )


def _of_recoveries(runs: list[RecoveryRun]) -> Iterator[Criterion]:
    for run in runs:
        where = "in a window" if run.window else "in the index"
        yield Criterion(
            number=9,
            promise=f"{run.events} events of a killed worker, {where}: lost",
            figure=run.lost,
            limit=0,
            exact=True,
        )


def _of_in_process(runs: list[ShardsRun]) -> Iterator[Criterion]:
    for run in runs:
        if run.window:
            what = f"in a window, {run.shards} shards: events/s by those emitted"
            share = run.per_second / OFFERED
            yield Criterion(number=10, promise=what, figure=share, limit=0.95, at_least=True)


def _of_samples(runs: list[SampleRun]) -> Iterator[Criterion]:
    for run in runs:
        if run.shards == 1:
            what = f"a sample of {run.rows:,} due events, {run.projection}: read units"
            yield Criterion(number=12, promise=what, figure=run.read_units, limit=SAMPLE_UNITS[run.projection])
