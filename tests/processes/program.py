"""What the processes of the tests have in common: their arguments, and the history that they write together."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reliability.history import Record, WorkerKilled
from reliability.journal import Journal, Write
from reliability.recording import Recorder


def true_time(offset: float) -> Callable[[], float]:
    """Make a clock that tells the judge's time in every process, whatever the process thinks that the time is."""
    return lambda: time.monotonic() + offset


def name_of(pid: int) -> str:
    """The name of the worker of a process."""
    return f"process {pid}"


def arguments() -> tuple[str, str, Recorder, dict[str, Any]]:
    """Read the arguments ENDPOINT TABLE HISTORY OFFSET [OPTIONS as JSON] of a process.

    The option `dies_after=["Claimed", 3]` kills it once it has written so many records of the kind.
    """
    endpoint, table_name, history, offset, *rest = sys.argv[1:]
    options = json.loads(rest[0]) if rest else {}
    now = true_time(float(offset))
    worker = name_of(os.getpid())
    write: Write = Journal(Path(history))
    if dies_after := options.pop("dies_after", None):
        write = _deadly(write, *dies_after, now=now, worker=worker)
    return endpoint, table_name, Recorder(write, worker=worker, now=now), options


def die(recorder: Recorder) -> None:
    """Kill this process, and have it known."""
    recorder.write(WorkerKilled(at=recorder.now(), worker=recorder.worker))
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(write: Write, kind: str, count: int, *, now: Callable[[], float], worker: str) -> Write:
    seen = 0

    def write_and_die(record: Record) -> None:
        nonlocal seen
        write(record)
        seen += type(record).__name__ == kind
        if seen == count:
            write(WorkerKilled(at=now(), worker=worker))
            os.kill(os.getpid(), signal.SIGKILL)

    return write_and_die
