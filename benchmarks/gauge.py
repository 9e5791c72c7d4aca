"""CPU, time and memory of this process."""

from __future__ import annotations

import gc
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Usage:
    """What a stretch of work took: seconds of CPU (user and system) and of time."""

    cpu: float
    seconds: float

    @classmethod
    def of(cls, pieces: Sequence[Usage]) -> Usage:
        """Sum up what the pieces of a work took."""
        return cls(sum(piece.cpu for piece in pieces), sum(piece.seconds for piece in pieces))


class Gauge:
    """Measures what happens in its `with` block. The collector runs before it, so that old garbage is not billed."""

    def __init__(self) -> None:
        self.usage = Usage(0.0, 0.0)
        self._cpu = self._started = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self._cpu, self._started = cpu_seconds(), perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.usage = Usage(cpu_seconds() - self._cpu, perf_counter() - self._started)


def cpu_seconds() -> float:
    """Sum the CPU time of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pace() -> float:
    """Milliseconds of CPU that a fixed piece of Python takes now. A neighbour on the same core doubles it."""
    content = [{"number": number, "text": str(number)} for number in range(200)]
    taken: list[float] = []
    for _ in range(10):
        before = cpu_seconds()
        for _ in range(20):
            json.loads(json.dumps(content))
        taken.append((cpu_seconds() - before) * 1000)
    return median(taken)


def peak_megabytes() -> float:
    """Tell the most memory that this process ever had."""
    if sys.platform == "linux":
        # `ru_maxrss` survives an exec there: a small process would tell the peak of the large one that started it.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
