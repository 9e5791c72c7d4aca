"""Checks whether processes leak memory, tasks or connections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final

from reliability.history import Record, Sampled

LEAST_SAMPLES: Final = 30
"""The minimum lifetime of a process (seconds) for a check."""
WARM_UP: Final = 10
GROWTH_A_MINUTE: Final = 2 * 2**20
"""Bytes by which caches may still grow. A leak for each event, at ten events per second, is more."""
MOST_TASKS: Final = 200
MOST_CONNECTIONS: Final = 80


def growth(records: Iterable[Record]) -> Iterator[str]:
    """Report workers whose memory grew from the first to the last third, or with too many tasks or connections."""
    samples: defaultdict[str, list[Sampled]] = defaultdict(list)
    for record in records:
        if isinstance(record, Sampled):
            samples[record.worker].append(record)
    for worker, taken in samples.items():
        settled = taken[WARM_UP:]
        if len(settled) >= LEAST_SAMPLES:
            yield from _growth_of(worker, settled)


def _growth_of(worker: str, taken: list[Sampled]) -> Iterator[str]:
    third = len(taken) // 3
    first, last = taken[:third], taken[-third:]
    minutes = (last[0].at - first[0].at) / 60
    grown = median(sample.memory for sample in last) - median(sample.memory for sample in first)
    if grown > GROWTH_A_MINUTE * max(minutes, 1):
        yield f"{worker} grew by {grown / 2**20:.1f} MB within {minutes:.1f} minutes"
    for what, most in (("tasks", MOST_TASKS), ("connections", MOST_CONNECTIONS)):
        usual = median(getattr(sample, what) for sample in last)
        if usual > most:
            yield f"{worker} had {usual:.0f} {what} at the end"
