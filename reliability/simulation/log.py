"""The log of a run: its history, to which the backend adds its changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reliability.history import Record, WindowWritten
from reliability.items import record_of_write
from reliability.simulation.table import Change, Table

TABLE: Final = "events"
"""The table of the outbox."""


class Log:
    """Collects the records of a run in their true order."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.history: list[Record] = []
        self.holders: dict[str, str] = {}
        """The process that keeps each window; empty if a recovery has taken the window."""
        self._now = now

    def write(self, record: Record) -> None:
        """Take a record."""
        self.history.append(record)

    def written(self, change: Change, asked_by: str, transaction: int = 0) -> None:
        """Take a change of an item."""
        if change.table.name != TABLE:
            return
        key = index_key_of(change.table)
        record = record_of_write(
            change.old, change.new, index_key=key, at=self._now(), worker=asked_by, transaction=transaction
        )
        if isinstance(record, WindowWritten):
            before, after = record.before, record.after
            is_taken = before is not None and after is not None and before.token != after.token
            self.holders[change.key] = "" if is_taken else self.holders.get(change.key, asked_by)
        if record is not None:
            self.write(record)


def index_key_of(table: Table) -> str:
    """Return the partition key of the index of the outbox's table."""
    (index,) = table.indexes.values()
    return index.schema.partition_key
