"""Prints the results, and writes them to a file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.criteria import Criterion
from benchmarks.partitions import ShardsRun
from benchmarks.suite import Results


def show(results: Results, criteria: list[Criterion], console: Console) -> None:
    """Print a table of each measured group."""
    for table in (
        _comparisons(results),
        _units(results),
        _latencies(results),
        _sizes(results),
        _workers(results),
        _backlogs(results),
        _shards(results.shards),
        _in_process(results.in_process),
        _recoveries(results),
        _samples(results),
        _criteria(criteria),
    ):
        if table.row_count:
            console.print(table)
    console.print(f"[dim]{_calibration(results)}")


def _calibration(results: Results) -> str:
    calibrations = results.calibrations
    return (
        f"calibration: a fixed piece of Python took {median(calibrations):.1f} ms in the median, "
        f"{min(calibrations):.1f} to {max(calibrations):.1f} ms; closer times mean more precise figures"
    )


def _table(heads: str, rows: Iterable[tuple[str, ...]]) -> Table:
    first, *others = heads.split(" | ")
    table = Table(first)
    for head in others:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _comparisons(results: Results) -> Table:
    return _table(
        "measured | baseline | CPU, µs | baseline, µs | ratio | of the runs | events/s | baseline | requests",
        (
            (
                each.name,
                each.baseline,
                f"{each.cpu:.0f}",
                f"{each.baseline_cpu:.0f}",
                f"{each.ratio:.2f}",
                f"{min(run.ratio for run in each.runs):.2f}-{max(run.ratio for run in each.runs):.2f}",
                f"{each.rate:.0f}",
                f"{each.baseline_rate:.0f}",
                f"{each.requests:.3f}",
            )
            for each in results.comparisons.values()
        ),
    )


def _units(results: Results) -> Table:
    return _table(
        "units per event | written | upkeep | read | counted by",
        (
            (name, f"{each.written:g}", f"{each.upkeep:g}", f"{each.read:.2f}", each.by)
            for name, each in results.units.items()
        ),
    )


def _latencies(results: Results) -> Table:
    return _table(
        "emit to handler | p50, ms | put | ratio | p99, ms | put | ratio",
        (
            (
                name,
                *(f"{figure:.2f}" for figure in (run.ours.p50, run.put.p50, run.p50_ratio)),
                *(f"{figure:.2f}" for figure in (run.ours.p99, run.put.p99, run.p99_ratio)),
            )
            for name, runs in results.latencies.items()
            for run in runs
        ),
    )


def _sizes(results: Results) -> Table:
    return _table(
        "payload, KB | emit_many, µs | by baseline | deliver, µs | by baseline | write units, ALL | KEYS_ONLY | "
        "read, ALL | KEYS_ONLY",
        (
            (
                f"{run.kilobytes:g}",
                f"{run.emit_cpu:.0f}",
                f"{run.emit_ratio:.2f}",
                f"{run.deliver_cpu:.0f}",
                f"{run.deliver_ratio:.2f}",
                f"{run.units_all:g}",
                f"{run.units_keys_only:g}",
                f"{run.read_all:.2f}",
                f"{run.read_keys_only:.2f}",
            )
            for run in results.sizes
        ),
    )


def _workers(results: Results) -> Table:
    return _table(
        "workers | events/s | refused claims | share | handled twice | CPU, µs",
        (
            (
                str(run.workers),
                f"{run.rate:.0f}",
                str(run.refused),
                f"{run.refused_share:.1%}",
                str(run.handled_twice),
                f"{run.cpu:.0f}",
            )
            for run in results.workers
        ),
    )


def _backlogs(results: Results) -> Table:
    return _table(
        "backlog | events/s | CPU, µs | peak memory, MB",
        (
            (f"{run.events:,}", f"{run.rate:.0f}", f"{run.cpu:.0f}", f"{run.peak_megabytes:.1f}")
            for run in results.backlogs
        ),
    )


def _shards(runs: list[ShardsRun]) -> Table:
    return _table(
        "shards | events | events/s | drained after, s | throttled | unsettled | leases lost | lost | handled twice",
        (
            (
                str(run.shards),
                f"{run.events:,}",
                f"{run.per_second:,.0f}",
                f"{run.drained_after:.1f}",
                f"{run.throttled:,}",
                str(run.settles_failed),
                str(run.leases_lost),
                str(run.lost),
                str(run.handled_twice),
            )
            for run in runs
        ),
    )


def _in_process(runs: list[ShardsRun]) -> Table:
    return _table(
        "shards, handled where emitted | window | events | events/s | drained after, s | throttled | lost | twice",
        (
            (
                str(run.shards),
                "yes" if run.window else "no",
                f"{run.events:,}",
                f"{run.per_second:,.0f}",
                f"{run.drained_after:.1f}",
                f"{run.throttled:,}",
                str(run.lost),
                str(run.handled_twice),
            )
            for run in runs
        ),
    )


def _recoveries(results: Results) -> Table:
    return _table(
        "events of a killed worker | window | recovered | s | CPU, µs | requests | write units | read units | lost",
        (
            (
                f"{run.events:,}",
                "yes" if run.window else "no",
                f"{run.recovered:,}",
                f"{run.seconds:.2f}",
                f"{run.cpu:.0f}",
                f"{run.requests:,}",
                f"{run.written:.2f}",
                f"{run.read:.2f}",
                str(run.lost),
            )
            for run in results.recoveries
        ),
    )


def _samples(results: Results) -> Table:
    return _table(
        "a sample of due events | index | shards | shown | read units | requests",
        (
            (
                f"{run.rows:,}",
                run.projection,
                str(run.shards),
                run.due,
                f"{run.read_units:g}",
                str(run.requests),
            )
            for run in results.samples
        ),
    )


def _criteria(criteria: list[Criterion]) -> Table:
    return _table(
        "criterion | measured | limit | ",
        (
            (
                f"{each.number}  {each.promise}",
                f"{each.figure:.3g}",
                f"{each.limit:g}",
                "[green]kept" if each.kept else "[red]missed by more than half" if each.failed else "[yellow]missed",
            )
            for each in criteria
        ),
    )


def write(results: Results, criteria: list[Criterion], path: Path) -> None:
    """Write the measured groups as JSON, and keep the other groups of the file."""
    measured: dict[str, Any] = {
        "comparisons": {name: each.as_json() for name, each in results.comparisons.items()},
        "units": {name: {**asdict(each), "written": each.written} for name, each in results.units.items()},
        "latencies": {name: [asdict(run) for run in runs] for name, runs in results.latencies.items()},
        "sizes": [asdict(run) for run in results.sizes],
        "workers": [{**asdict(run), "refused_share": run.refused_share} for run in results.workers],
        "backlogs": [asdict(run) for run in results.backlogs],
        "shards": [asdict(run) for run in results.shards],
        "in_process": [asdict(run) for run in results.in_process],
        "recoveries": [asdict(run) for run in results.recoveries],
        "samples": [asdict(run) for run in results.samples],
        "criteria": {f"{each.number} {each.promise}": {**asdict(each), "kept": each.kept} for each in criteria},
    }
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, group in measured.items():
        if isinstance(group, dict):
            content.setdefault(name, {}).update(group)
        elif group or name not in content:
            content[name] = group
    content |= {"python": platform.python_version(), "aiobotocore": version("aiobotocore")}
    content["calibration"] = [round(each, 1) for each in results.calibrations]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
