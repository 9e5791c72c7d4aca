"""How much is measured: everything for the page of the documentation, or a part that takes some minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks import partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The extent of the measurements: runs, and events per run."""

    runs: int
    more_runs: int = 2
    """Runs of the measurements without a promise."""
    pieces: int
    """Pieces per run.

    The pieces of all measurements alternate with their baselines, so that a change of the machine's speed affects
    all measurements alike.
    """
    events: int
    """Events per piece; `emit_many` and the 100 emitters use twice this number, single requests a fifth."""
    samples: int = 100
    shared: int = 5000
    shared_by_fewer: int = 1000
    workers: tuple[int, ...] = (1, 2, 4, 8)
    backlogs: tuple[int, ...] = (1000, 10_000, 100_000)
    shards: tuple[int, ...] = partitions.SHARDS
    shards_in_process: tuple[int, ...] = (1, 8)
    recovered: int = 1000
    groups: tuple[str, ...]


_FIRST: Final = (
    "emit",
    "deliver",
    "windows",
    "keys",
    "more-keys",
    "telemetry",
    "bare-telemetry",
    "more",
    "publish",
    "more-publish",
    "units",
    "latency",
)
FULL: Final = Scale(
    runs=5,
    pieces=2,
    events=500,
    groups=(*_FIRST, "recovery", "sizes", "workers", "backlog", "shards", "in-process", "samples"),
)
QUICK: Final = Scale(
    runs=3,
    pieces=2,
    events=250,
    groups=("emit", "deliver", "windows", "keys", "telemetry", "publish", "units", "samples"),
)
