"""Counts the records of a journal for the display, while several processes write it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


class Ledger:
    """Follows a journal and counts its records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.records: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.ended: set[str] = set()
        self.memory: dict[str, int] = {}

    def follow(self) -> None:
        """Count the new records."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines, _, _ = file.read().rpartition(b"\n")
        self._read += len(lines) + 1 if lines else 0
        for line in lines.splitlines():
            self._count(json.loads(line))

    def _count(self, facts: dict[str, str]) -> None:
        kind = facts["record"]
        self.records[kind] += 1
        if kind == "EmitAcknowledged":
            self.acknowledged.add(facts["event_id"])
        elif kind == "Settled":
            self.outcomes[facts["outcome"]] += 1
            if facts["outcome"] in ("complete", "fail"):
                self.ended.add(facts["event_id"])
        elif kind == "Sampled":
            self.memory[facts["worker"]] = int(facts["memory"])

    @property
    def waiting(self) -> int:
        """The number of acknowledged events without a known end."""
        return len(self.acknowledged - self.ended)
