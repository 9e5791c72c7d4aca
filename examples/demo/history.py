"""The histories that the processes write and the demo reads: what was emitted, begun, done and failed, and where."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class What(StrEnum):
    """What happened to an event."""

    EMITTED = "emitted"
    START = "start"
    DONE = "done"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a history; `at` is in epoch seconds, `attempt` counts from 1."""

    what: What
    event_id: str
    pid: int
    at: float
    attempt: int = 0


class HistoryWriter:
    """Appends records to a file, each with one write: what is written outlives a SIGKILL."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: What, event_id: str, *, attempt: int = 0) -> None:
        """Append a record of now."""
        record = Record(what=what, event_id=event_id, pid=os.getpid(), at=time.time(), attempt=attempt)
        os.write(self._file, (json.dumps(asdict(record)) + "\n").encode())


class HistoryReader:
    """Follows the histories of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def read_new(self) -> Iterator[Record]:
        """Yield what was written since the last call; within a process in its order."""
        for path in sorted(self._folder.glob("*.history.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                lines, _, _ = file.read().rpartition(b"\n")
            if lines:
                self._offsets[path] = self._offsets.get(path, 0) + len(lines) + 1
                for line in lines.splitlines():
                    fields = json.loads(line)
                    yield Record(**fields | {"what": What(fields["what"])})
