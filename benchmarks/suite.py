"""All measurements, in groups that can be selected one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks import (
    accounting,
    delivering,
    emitting,
    latency,
    ordered,
    partitions,
    processes,
    publishing,
    recoveries,
    samples,
    sizes,
    telemetry,
    windows,
)
from benchmarks.accounting import Units
from benchmarks.backend import Clients
from benchmarks.comparison import Comparison, Run
from benchmarks.latency import LatencyRun
from benchmarks.measure import calibrate
from benchmarks.partitions import ShardsRun
from benchmarks.payloads import events
from benchmarks.processes import BacklogRun, WorkersRun
from benchmarks.recoveries import RecoveryRun
from benchmarks.samples import SampleRun
from benchmarks.scale import Scale
from benchmarks.sizes import SizeRun

Say = Callable[[str], None]


@dataclass(slots=True)
class Results:
    """All results."""

    comparisons: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    units: dict[str, Units] = field(default_factory=dict[str, Units])
    latencies: dict[str, list[LatencyRun]] = field(default_factory=dict[str, list[LatencyRun]])
    sizes: list[SizeRun] = field(default_factory=list[SizeRun])
    workers: list[WorkersRun] = field(default_factory=list[WorkersRun])
    backlogs: list[BacklogRun] = field(default_factory=list[BacklogRun])
    shards: list[ShardsRun] = field(default_factory=list[ShardsRun])
    in_process: list[ShardsRun] = field(default_factory=list[ShardsRun])
    recoveries: list[RecoveryRun] = field(default_factory=list[RecoveryRun])
    samples: list[SampleRun] = field(default_factory=list[SampleRun])
    calibrations: list[float] = field(default_factory=list[float])
    """The calibration of the machine before each run and each group, in milliseconds."""


async def measure(clients: Clients, endpoint: str, scale: Scale, say: Say) -> Results:
    """Measure the groups of the scale."""
    results = Results()
    # The first calls load modules, endpoints and statements, and are not measured.
    await emitting.many(clients, count=200)
    await delivering.backlog(clients, count=200)
    for group in dict.fromkeys(measurement.group for measurement in _comparisons(clients, scale)):
        if group in scale.groups:
            await _compare(group, clients, scale, say, results)
    for group, measured in _GROUPS.items():
        if group in scale.groups:
            say(group)
            results.calibrations.append(calibrate())
            await measured(clients, endpoint, scale, results)
    return results


async def _compare(group: str, clients: Clients, scale: Scale, say: Say, results: Results) -> None:
    """Run the comparisons of a group piece by piece, in turns."""
    measurements = [measurement for measurement in _comparisons(clients, scale) if measurement.group == group]
    for measurement in measurements:
        results.comparisons[measurement.name] = Comparison(name=measurement.name, baseline=measurement.baseline)
    runs = scale.more_runs if group.startswith("more") else scale.runs
    for run in range(runs):
        say(f"{group}, {run + 1} of {runs}")
        results.calibrations.append(calibrate())
        measured: dict[str, list[Run]] = {measurement.name: [] for measurement in measurements}
        # A delivery with OpenTelemetry takes turns with its baseline within a piece.
        for _ in range(1 if "telemetry" in group else scale.pieces):
            for measurement in measurements:
                measured[measurement.name].append(await measurement.run())
        for name, pieces in measured.items():
            results.comparisons[name].runs.append(Run.of(pieces))


async def _units(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for mode in ("single", "batch"):
        results.units[f"polled, {mode}"] = await accounting.polled(clients.ours, events(100), mode=mode)
        results.units[f"claimed on emit, {mode}"] = await accounting.on_emit(clients.ours, events(100), mode=mode)
        results.units[f"in a window, {mode}"] = await accounting.in_window(clients.ours, count=100, mode=mode)
    results.units |= await ordered.units(clients.ours)


async def _latency(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for name, claim_on_emit, window in (
        ("in a window", True, True),
        ("claimed on emit", True, False),
        ("polled", False, False),
    ):
        results.latencies[name] = [
            await latency.emit_to_handler(clients, samples=scale.samples, claim_on_emit=claim_on_emit, window=window)
            for _ in range(scale.runs)
        ]


async def _recovery(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for window in (True, False):
        results.recoveries.append(
            await recoveries.of_killed_worker(clients, endpoint, count=scale.recovered, window=window)
        )


async def _sizes(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for kilobytes in sizes.KILOBYTES:
        results.sizes.append(await sizes.of_payload(clients, kilobytes=kilobytes, count=2 * scale.events))


async def _workers(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    *fewer, most = scale.workers
    for workers in fewer:
        count = scale.shared_by_fewer
        results.workers.append(await processes.share_backlog(clients.ours, endpoint, workers=workers, count=count))
    for _ in range(scale.runs):
        results.workers.append(await processes.share_backlog(clients.ours, endpoint, workers=most, count=scale.shared))


async def _backlog(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    shortest, *between, longest = scale.backlogs
    short: list[BacklogRun] = []

    async def drain_shortest() -> None:
        short.append(await processes.drain_backlog(clients.ours, endpoint, count=shortest))

    longer = [await processes.drain_backlog(clients.ours, endpoint, count=count) for count in between]
    # The longest backlog takes minutes, and the shortest a second: the shortest runs repeatedly in breaks of the
    # longest.
    breaks = [drain_shortest] * 2 * scale.runs
    longer.append(await processes.drain_backlog(clients.ours, endpoint, count=longest, breaks=breaks))
    results.backlogs = [BacklogRun.mean(short), *longer]


async def _shards(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for shards in scale.shards:
        # In a thread, because the simulation runs its own event loops.
        results.shards.append(await asyncio.to_thread(partitions.simulate, shards))


async def _in_process(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for window in (True, False):
        for shards in scale.shards_in_process:
            run = await asyncio.to_thread(partitions.simulate, shards, window=window)
            results.in_process.append(run)


async def _samples(clients: Clients, endpoint: str, scale: Scale, results: Results) -> None:
    for rows in samples.ROWS:
        for projection, shards in samples.TABLES:
            results.samples.append(await samples.of_backlog(rows=rows, projection=projection, shards=shards))


_GROUPS: Final = {
    "units": _units,
    "latency": _latency,
    "recovery": _recovery,
    "sizes": _sizes,
    "workers": _workers,
    "backlog": _backlog,
    "shards": _shards,
    "in-process": _in_process,
    "samples": _samples,
}


@dataclass(frozen=True, slots=True)
class _Measurement:
    group: str
    name: str
    baseline: str
    run: Callable[[], Awaitable[Run]]


def _comparisons(clients: Clients, scale: Scale) -> list[_Measurement]:
    many, few, emitted = scale.events, scale.events // 5, 2 * scale.events
    return [
        _Measurement("more", "emit, one by one", "PutItem", lambda: emitting.one(clients, count=few)),
        _Measurement(
            "more", "emit, 100 at once", "the same requests", lambda: emitting.concurrently(clients, count=emitted)
        ),
        _Measurement(
            "emit",
            "emit, 100 at once, by puts",
            "one PutItem per event",
            lambda: emitting.concurrently_against_puts(clients, count=emitted),
        ),
        _Measurement("emit", "emit_many", "BatchWriteItem", lambda: emitting.many(clients, count=emitted)),
        _Measurement("deliver", "deliver, batch", "the same requests", lambda: delivering.backlog(clients, count=many)),
        _Measurement(
            "deliver",
            "deliver, single",
            "the same requests",
            lambda: delivering.backlog(clients, count=few, mode="single"),
        ),
        _Measurement(
            "more",
            "deliver, batch_size=10",
            "the same requests",
            lambda: delivering.backlog(clients, count=many, batch_size=10),
        ),
        *_of_windows(clients, few=few, many=many),
        *_of_keys(clients, count=few // 2),
        *_of_telemetry(clients, few=few, many=many),
        *_of_publishing(clients, count=many),
        _Measurement("more", "deliver, on emit", "the same requests", lambda: delivering.on_emit(clients, count=many)),
        _Measurement("more", "mixed", "the same requests", lambda: delivering.mixed(clients, count=many)),
        *_of_a_supplied_client(clients, many=many, emitted=emitted),
    ]


def _of_a_supplied_client(clients: Clients, *, many: int, emitted: int) -> list[_Measurement]:
    supplied = Clients(ours=clients.bare, bare=clients.bare)
    return [
        _Measurement(
            "more",
            "emit_many, supplied client",
            "BatchWriteItem",
            lambda: emitting.many(supplied, count=emitted),
        ),
        _Measurement(
            "more",
            "deliver, supplied client",
            "the same requests",
            lambda: delivering.backlog(supplied, count=many),
        ),
    ]


def _of_keys(clients: Clients, *, count: int) -> list[_Measurement]:
    return [
        _Measurement("keys" if name == ordered.PROMISED else "more-keys", name, "the same requests", run)
        for name, run in ordered.flows(clients, count=count).items()
    ]


def _of_publishing(clients: Clients, *, count: int) -> list[_Measurement]:
    return [
        _Measurement(
            "publish",
            publishing.SAME_REQUESTS,
            "the same requests",
            lambda: publishing.by_same_requests(clients, count=count),
        ),
        _Measurement(
            "more-publish",
            publishing.SENDS_ALONE,
            "send_message_batch of ten",
            lambda: publishing.by_sends(clients, count=count),
        ),
    ]


def _of_telemetry(clients: Clients, *, few: int, many: int) -> list[_Measurement]:
    return [
        _Measurement(
            "telemetry" if sdk in telemetry.PROMISED else "bare-telemetry",
            f"OpenTelemetry {sdk}: {name}",
            "without `instrument`",
            partial(flow, clients, count=few if flow is telemetry.one_by_one else many, sdk=sdk),
        )
        for sdk in telemetry.SDKS
        for name, flow in telemetry.FLOWS.items()
    ]


def _of_windows(clients: Clients, *, few: int, many: int) -> list[_Measurement]:
    """List pairs of measurements: events in a window, and the same events in the index."""

    def measured(name: str, run: Callable[..., Awaitable[Run]], count: int) -> list[_Measurement]:
        return [
            _Measurement(
                "windows", f"{name}, {where}", "the same requests", partial(run, clients, count=count, window=window)
            )
            for where, window in (("in a window", True), ("in the index", False))
        ]

    return [
        *measured("on emit, one by one", windows.emit_one_by_one, few),
        *measured("on emit, 25 at once", windows.emit_many, many),
    ]
