"""Records of windows: the events that were claimed on emit, and are in no index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.event_ids import numbered_id

WINDOW: Final = "WINDOW"
"""The status of an open window. A window that was recovered has the status VOID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindow:
    """The item of a window: its events have the numbers from `start` up to `end` under the seed, which is hexadecimal.

    `sort_key` is the end of its lease (epoch milliseconds).
    """

    window: str
    status: str
    token: str | None = None
    seed: str = ""
    start: int = 0
    end: int = 0
    sort_key: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether its events are found by it."""
        return self.status == WINDOW

    def covers(self, event_id: str) -> bool:
        """Tell whether an event is found by it."""
        numbers = range(self.start, self.end)
        return self.is_open and any(numbered_id(bytes.fromhex(self.seed), number) == event_id for number in numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowWritten:
    """A change of a window's item in the log of the backend; see `Written`."""

    at: float
    window: str
    before: StoredWindow | None
    after: StoredWindow | None
    worker: str = ""
    began_at: float | None = None
