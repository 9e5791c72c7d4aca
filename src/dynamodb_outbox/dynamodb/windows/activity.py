"""How many events are claimed on emit, and how many ids are made: whether a window is worthwhile, and its size."""

from __future__ import annotations

import math
from typing import Final

from dynamodb_outbox.dynamodb.windows.window import Window
from dynamodb_outbox.event_ids import event_ids

OPEN_AT: Final = 10
"""A window opens when this many events are claimed on emit in a third of a lease. It then saves more than it costs."""
KEEP_AT: Final = 3
"""A window stays while this many events a third of a lease are claimed on emit, or one of its events is open."""
LEAST_AHEAD: Final = 200
MOST_AHEAD: Final = 4_096
"""A window reaches this many numbers ahead: what is made in two seconds, within these limits."""
AHEAD_SECONDS: Final = 2.0
LONGEST_SPAN: Final = 4_096
"""A window has at most this many numbers, so that its recovery stays cheap."""
STRAGGLER_SPAN: Final = LONGEST_SPAN // 2
"""An event that is this far behind the newest is moved into the index, because the window could not move on."""
_LEAST_SECONDS: Final = 0.1


class Activity:
    """Counts in periods of a third of a lease. Times are of the event loop."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._since = -math.inf
        self._entered = 0
        self._first_number = 0

    def count(self) -> None:
        """Count an event that is claimed on emit."""
        self._entered += 1

    def begin(self, now: float) -> None:
        """Begin a new period."""
        self._since, self._entered, self._first_number = now, 0, event_ids.next_number

    def is_worthwhile(self, now: float) -> bool:
        """Tell whether enough events were claimed on emit in this period to open a window."""
        return self._entered >= OPEN_AT and now - self._since < self._period

    def is_over(self, now: float) -> bool:
        """Tell whether the period has passed."""
        return now - self._since >= self._period

    @property
    def is_low(self) -> bool:
        """Whether too few events were claimed on emit in this period to keep a window."""
        return self._entered < KEEP_AT

    def range_of(self, window: Window, *, now: float) -> tuple[int, int]:
        """Return the start and end that a window should have: its open events, and some numbers ahead."""
        following = event_ids.next_number
        made = following - self._first_number
        ahead = int(made / max(now - self._since, _LEAST_SECONDS) * AHEAD_SECONDS)
        ahead = min(max(ahead, LEAST_AHEAD), MOST_AHEAD)
        # Never back, although `next_number` may go back: threads that make ids at once may note them in any order.
        start = max(window.start, window.lowest(default=following))
        return start, max(window.end, min(following + ahead, start + LONGEST_SPAN))
