"""CPU, time and memory of this process."""

from __future__ import annotations

import gc
import resource
import sys
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Usage:
    """What a stretch of work took: seconds of CPU (user and system) and of time."""

    cpu: float
    seconds: float


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


def peak_megabytes() -> float:
    """Tell the most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
