"""Journals: histories as files of JSON lines, which several processes may write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, get_args

from reliability.history import Outcome, Record, Result, Stored, StoredQueue, StoredWindow

Write = Callable[[Record], None]
"""Writes a record. It is called in the event loop, and must be quick."""


def _stored_from(facts: Mapping[str, Any] | None) -> Stored | StoredQueue | StoredWindow | None:
    """Read the item of a record: of an event, of a queue, or of a window."""
    if facts is None or "seed" in facts:
        return None if facts is None else StoredWindow(**facts)
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return StoredQueue(**read) if "ids" in facts else Stored(**read)


_KINDS: Final[Mapping[str, type[Record]]] = {kind.__name__: kind for kind in get_args(Record)}
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "result": Result,
    "outcome": Outcome,
    "before": _stored_from,
    "after": _stored_from,
}


class Journal:
    """A file of records. Each record is appended with one write, so it survives a SIGKILL."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __call__(self, record: Record) -> None:
        """Append a record."""
        os.write(self._file, f"{line_of(record)}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def line_of(record: Record) -> str:
    """Write a record as a line of JSON."""
    return json.dumps({"record": type(record).__name__, **asdict(record)})


def record_of(line: str) -> Record:
    """Read a record from its line."""
    facts = json.loads(line)
    kind = _KINDS[facts.pop("record")]
    return kind(**{name: _read(name, value) for name, value in facts.items()})


def _read(name: str, value: Any) -> Any:
    if name in _READERS:
        return _READERS[name](value)
    return tuple(value) if isinstance(value, list) else value


def read(path: Path) -> list[Record]:
    """Read a journal in the order of the times, without an incomplete last line."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return sorted((record_of(line) for line in lines), key=attrgetter("at"))
