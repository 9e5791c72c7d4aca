"""The state of one window: which numbers it covers, and which of its events are open. Makes no requests.

Example: 3 events with the numbers 200, 201 and 202 are claimed on emit. 200 and 202 are completed, 201 still runs. The
window then must start at 201 or before, so that 201 is found if this process dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from dynamodb_outbox.dynamodb.windows.item import FIRST_VERSION
from dynamodb_outbox.event_ids import IdNumber
from dynamodb_outbox.shared_lease import SharedLease


class EntryState(Enum):
    """What is known of an event of a window."""

    SENDING = auto()
    """Its write is under way."""
    HELD = auto()
    """It is stored and claimed, and its outcome is not known to be written."""
    UNSURE = auto()
    """Its write was not answered, and the emit has raised an error: it may be stored."""
    ABANDONED = auto()
    """Its outcome could not be written: it may still be PROCESSING, and in no index."""


@dataclass(slots=True, eq=False)
class Entry:
    """An event that is in a window and in no index, until an answer says that it is stored elsewhere or nowhere."""

    window: Window
    number: int
    event_id: str
    token: str
    state: EntryState = EntryState.SENDING


class Window:
    """A window of this worker. `start` and `end` are what may be used; the stored range may be larger for a while.

    The end moves only when DynamoDB has answered the write, the start already when the write is sent.
    """

    def __init__(self, item_id: str, *, token: str, seed: bytes, start: int, end: int, lease: SharedLease) -> None:
        self.item_id = item_id
        self.name = item_id.rpartition("/")[2]
        self.token = token
        self.seed = seed
        self.start = start
        self.end = end
        self.versions = [FIRST_VERSION]
        """The version of the last renewal that was answered, and those of later renewals that were not."""
        self.lease = lease
        self.is_closed = False
        """Whether no further event may enter: the window is lost, or about to be deleted."""
        self._open: dict[int, Entry] = {}
        self._by_token: dict[str, Entry] = {}

    def covers(self, number: IdNumber | None) -> bool:
        """Tell whether the event of an id may be stored outside of the index now."""
        return (
            number is not None
            and not self.is_closed
            and number.seed == self.seed
            and self.start <= number.number < self.end
            and number.number not in self._open
        )

    def enter(self, number: IdNumber, *, event_id: str, token: str) -> Entry:
        """Let an event in whose write is about to be sent."""
        entry = Entry(self, number.number, event_id, token)
        self._open[entry.number] = entry
        self._by_token[token] = entry
        return entry

    def leave(self, entry: Entry) -> None:
        """Let an event go: it is stored in the index or for good, or DynamoDB has answered that it is not stored."""
        if self._open.get(entry.number) is entry:
            del self._open[entry.number]
            self._by_token.pop(entry.token, None)
            self.lease.leave(entry.token)

    def of_token(self, token: str) -> Entry | None:
        """Find the open event of a claim."""
        return self._by_token.get(token)

    @property
    def open_count(self) -> int:
        """How many events are open."""
        return len(self._open)

    def lowest(self, default: int) -> int:
        """Return the lowest number that must stay covered; `default` if no event is open."""
        return min(self._open, default=default)

    def in_state(self, *states: EntryState) -> list[Entry]:
        """List the open events in these states."""
        return [entry for entry in self._open.values() if entry.state in states]

    def held_below(self, number: int) -> list[Entry]:
        """List the held events with lower numbers: they keep the start of the window from moving."""
        return [entry for entry in self.in_state(EntryState.HELD) if entry.number < number]
