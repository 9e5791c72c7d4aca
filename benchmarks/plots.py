"""Draws the results for the documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

OURS: Final = "#2563eb"
BASELINE: Final = "#94a3b8"
WARM: Final = "#ea580c"
Values = Sequence[float]


def draw(results: Path, folder: Path) -> None:
    """Draw a picture of each group in the results."""
    content = json.loads(results.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Callable[[Any], Figure]] = {"cpu": _cpu, "workers": _workers, "backlog": _backlog, "sizes": _sizes}
    drawn["shards"] = _shards
    groups = {"cpu": "comparisons", "workers": "workers", "backlog": "backlogs", "sizes": "sizes", "shards": "shards"}
    for name, draw_one in drawn.items():
        if content.get(groups[name]):
            figure = draw_one(content[groups[name]])
            figure.tight_layout()
            figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})


def _cpu(comparisons: Mapping[str, Any]) -> Figure:
    names = list(comparisons)[::-1]
    ratios = [comparisons[name]["ratio"] for name in names]
    figure = Figure(figsize=(8, 0.4 * len(names) + 1))
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), ratios, 0.65, color=OURS)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=4)
    axes.axvline(1, color=WARM, linestyle="--")
    axes.set_yticks(range(len(names)), [f"{name} / {comparisons[name]['baseline']}" for name in names])
    axes.set_xlabel("CPU per event, divided by the CPU of the baseline")
    axes.set_xlim(0, 1.15 * max(ratios))
    return figure


def _workers(runs: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 3))
    left, right = figure.subplots(1, 2)
    runs = list({run["workers"]: run for run in runs}.values())
    workers = [str(run["workers"]) for run in runs]
    left.bar(workers, [run["rate"] for run in runs], color=OURS)
    left.set_ylabel("events per second, all processes")
    right.bar(workers, [100 * run["refused_share"] for run in runs], color=WARM)
    right.axhline(2, color=BASELINE, linestyle="--")
    right.set_ylabel("refused claims, %")
    for axes in (left, right):
        axes.set_xlabel("worker processes")
    return figure


def _backlog(runs: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 3))
    left, right = figure.subplots(1, 2)
    counts = [run["events"] for run in runs]
    _line(left, counts, [run["cpu"] for run in runs], "CPU per event, µs")
    _line(right, counts, [run["peak_megabytes"] for run in runs], "peak memory, MB")
    return figure


def _line(axes: Any, counts: Values, figures: Values, label: str) -> None:
    axes.plot(counts, figures, "o-", color=OURS)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0, top=1.4 * max(figures))
    axes.set_xlabel("events in the backlog")
    axes.set_ylabel(label)


def _sizes(runs: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots()
    kilobytes = [run["kilobytes"] for run in runs]
    axes.plot(kilobytes, [run["units_all"] for run in runs], "o-", color=WARM, label="index: ALL")
    axes.plot(kilobytes, [run["units_keys_only"] for run in runs], "o-", color=OURS, label="index: KEYS_ONLY")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("payload, KB")
    axes.set_ylabel("write units per event")
    axes.legend()
    return figure


def _shards(runs: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 3.2))
    axes = figure.subplots()
    shards = [run["shards"] for run in runs]
    axes.plot(shards, [run["per_second"] for run in runs], "o-", color=OURS, label="delivered under constant load")
    axes.plot(shards, [500 * count for count in shards], "--", color=BASELINE, label="limit of the partitions")
    axes.set_xlabel("shards")
    axes.set_ylabel("events per second")
    axes.legend()
    return figure


if __name__ == "__main__":
    docs = Path(__file__).parent.parent / "docs"
    draw(docs / "performance.json", docs / "images")
