"""Measures the CPU, time and memory of this process."""

from __future__ import annotations

import gc
import json
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from types import TracebackType
from typing import Final, Self, TypeVar

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """The costs of some work: seconds of CPU (user and system) and of wall-clock time."""

    cpu: float
    seconds: float

    @classmethod
    def of(cls, pieces: Sequence[Usage]) -> Usage:
        """Add up the costs of several pieces of work."""
        return cls(sum(piece.cpu for piece in pieces), sum(piece.seconds for piece in pieces))


class Measure:
    """Measures its `with` block, without what `uncounted` calls take there.

    It collects garbage first, so that older garbage does not count.
    """

    def __init__(self) -> None:
        self.usage = Usage(0.0, 0.0)
        self._cpu = self._started = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self._cpu, self._started = cpu_seconds() - _uncounted[0], perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.usage = Usage(cpu_seconds() - _uncounted[0] - self._cpu, perf_counter() - self._started)


_uncounted: Final = [0.0]


def uncounted(work: Callable[[A], T], argument: A) -> T:
    """Do a part of the measuring itself, whose CPU is not that of the library."""
    before = thread_time()
    try:
        return work(argument)
    finally:
        _uncounted[0] += thread_time() - before


def cpu_seconds() -> float:
    """Sum the CPU time of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def calibrate() -> float:
    """Return the milliseconds of CPU that a fixed piece of Python takes now.

    Other work on the same core can double it.
    """
    content = [{"number": number, "text": str(number)} for number in range(200)]
    taken: list[float] = []
    for _ in range(10):
        before = cpu_seconds()
        for _ in range(20):
            json.loads(json.dumps(content))
        taken.append((cpu_seconds() - before) * 1000)
    return median(taken)


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    if sys.platform == "linux":
        # On Linux `ru_maxrss` survives an exec: a small process would report the peak of its large parent.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
