"""The results on a terminal, and as a file."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.comparison import Comparison
from benchmarks.criteria import Criterion
from benchmarks.suite import Results


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    console.print(_comparisons(list(results.comparisons.values())))
    units = Table("units an event", "emit", "deliver", "total written", "read", "counted by")
    for name, each in results.units.items():
        units.add_row(name, f"{each.emit:g}", f"{each.deliver:g}", f"{each.written:g}", f"{each.read:.2f}", each.by)
    console.print(units)
    latencies = Table("emit to handler (ms)", "p50", "p99", "put p50", "put p99")
    for name, runs in results.latencies.items():
        for run in runs:
            figures = (run.ours.p50, run.ours.p99, run.put.p50, run.put.p99)
            latencies.add_row(name, *(f"{figure:.2f}" for figure in figures))
    console.print(latencies)
    console.print(_criteria(results.criteria))


def _comparisons(comparisons: list[Comparison]) -> Table:
    table = Table("measurement", "floor", "CPU µs", "floor", "ratio", "of runs", "events/s", "floor", "requests")
    for each in comparisons:
        ratios = [run.ours.cpu / run.floor.cpu for run in each.runs]
        table.add_row(
            each.name,
            each.floor,
            f"{each.cpu:.0f}",
            f"{each.floor_cpu:.0f}",
            f"{each.ratio:.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
            f"{each.rate:.0f}",
            f"{each.floor_rate:.0f}",
            f"{each.requests:.3f}",
        )
    return table


def _criteria(criteria: list[Criterion]) -> Table:
    table = Table("", "promise", "measured", "limit", "")
    for each in criteria:
        verdict = "[green]kept" if each.kept else "[red]FAILED" if each.failed else "[yellow]missed"
        table.add_row(str(each.number), each.promise, f"{each.figure:.3g}", f"{each.limit:g}", verdict)
    return table


def write(results: Results, path: Path) -> None:
    """Write everything that was measured as JSON."""
    content: dict[str, Any] = {
        "python": platform.python_version(),
        "aiobotocore": version("aiobotocore"),
        "comparisons": [each.as_json() for each in results.comparisons.values()],
        "units": {name: {**asdict(each), "written": each.written} for name, each in results.units.items()},
        "latencies": {name: [asdict(run) for run in runs] for name, runs in results.latencies.items()},
        "criteria": [{**asdict(each), "kept": each.kept} for each in results.criteria],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
