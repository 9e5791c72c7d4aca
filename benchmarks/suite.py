"""All measurements in their order, and what they are judged by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import accounting, delivering, emitting, latency
from benchmarks.accounting import Units
from benchmarks.comparison import Comparison, Run
from benchmarks.criteria import Criterion
from benchmarks.latency import LatencyRun

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured."""

    runs: int
    events: int
    singles: int
    samples: int


FULL = Scale(runs=5, events=2000, singles=300, samples=300)
QUICK = Scale(runs=3, events=750, singles=150, samples=150)


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    comparisons: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    units: dict[str, Units] = field(default_factory=dict[str, Units])
    latencies: dict[str, list[LatencyRun]] = field(default_factory=dict[str, list[LatencyRun]])
    criteria: list[Criterion] = field(default_factory=list[Criterion])


async def measure(client: Any, scale: Scale, say: Say) -> Results:
    """Measure what criteria 1, 2, 3 and 5 are about."""
    results = Results()
    await emitting.many(client, count=200)
    await delivering.backlog(client, count=200)
    for measurement in _comparisons(client, scale):
        say(measurement.name)
        comparison = Comparison(name=measurement.name, floor=measurement.floor)
        for _ in range(scale.runs):
            comparison.runs.append(await measurement.run())
        results.comparisons[measurement.name] = comparison
    say("units")
    for mode in ("single", "batch"):
        results.units[f"polled, {mode}"] = await accounting.polled(client, count=100, mode=mode)
        results.units[f"claimed at birth, {mode}"] = await accounting.born(client, count=100, mode=mode)
    for name, claim_on_emit in (("claimed at birth", True), ("polled", False)):
        say(f"latency, {name}")
        results.latencies[name] = [
            await latency.emit_to_handler(client, samples=scale.samples, claim_on_emit=claim_on_emit)
            for _ in range(scale.runs)
        ]
    results.criteria = judge(results)
    return results


@dataclass(frozen=True, slots=True)
class _Measurement:
    name: str
    floor: str
    run: Callable[[], Awaitable[Run]]


def _comparisons(client: Any, scale: Scale) -> list[_Measurement]:
    many, few = scale.events, scale.singles
    return [
        _Measurement("emit, one by one", "PutItem", lambda: emitting.one(client, count=few)),
        _Measurement(
            "emit, 100 at once", "same requests", lambda: emitting.concurrently(client, count=many)
        ),
        _Measurement(
            "emit, 100 at once / puts",
            "one PutItem an event",
            lambda: emitting.concurrently_against_puts(client, count=many),
        ),
        _Measurement("emit_many", "BatchWriteItem", lambda: emitting.many(client, count=many)),
        _Measurement("deliver, batch", "same requests", lambda: delivering.backlog(client, count=many)),
        _Measurement(
            "deliver, single", "same requests", lambda: delivering.backlog(client, count=few, mode="single")
        ),
        _Measurement("deliver, at birth", "same requests", lambda: delivering.births(client, count=many)),
        _Measurement("mixed", "same requests", lambda: delivering.mixed(client, count=many)),
    ]


def judge(results: Results) -> list[Criterion]:
    """Compare what was measured with what is promised."""
    found = results.comparisons
    batch, single = found["deliver, batch"], found["deliver, single"]
    fifth = median(
        ours.ours.cpu / ours.events / (other.ours.cpu / other.events)
        for ours, other in zip(batch.runs, single.runs, strict=True)
    )
    births, polled = (
        [(run.ours.p50 / run.put.p50, run.ours.p99 / run.put.p99) for run in results.latencies[name]]
        for name in ("claimed at birth", "polled")
    )
    return [
        Criterion(number=1, promise="deliver, batch: CPU by the floor's", figure=batch.ratio, limit=1.4),
        Criterion(number=1, promise="deliver, batch: CPU by single's", figure=fifth, limit=0.2),
        Criterion(number=2, promise="emit_many: CPU by BatchWriteItem's", figure=found["emit_many"].ratio, limit=1.4),
        Criterion(
            number=2,
            promise="100 emitters: CPU by one PutItem an event",
            figure=found["emit, 100 at once / puts"].ratio,
            limit=0.25,
        ),
        *(
            Criterion(number=3, promise=f"write units: {name}", figure=units.written, limit=limit, exact=True)
            for name, units in results.units.items()
            for limit in [7.0 if name.startswith("polled") else 4.0]
        ),
        Criterion(number=5, promise="latency at birth: p50 by a put's", figure=median(p for p, _ in births), limit=1.5),
        Criterion(number=5, promise="latency at birth: p99 by a put's", figure=median(p for _, p in births), limit=6),
        Criterion(number=5, promise="latency polled: p50 by a put's", figure=median(p for p, _ in polled), limit=4),
    ]
