"""Ordering keys that the worker keeps: the settle of an event hands on the claim of the next event of its key.

So a worker handles the events of a key without polls in between. The next event takes the slot of the one before it,
and passes the same gates as an event that was polled. After some events in a row, the adapter makes the next event due
for all workers, so that other keys have their turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dynamodb_outbox.claims import Claim

BUSY_AFTER: Final = 10
"""If the worker has handled this many events of a key in a row, it polls for more of them at once."""


class KeptKeys:
    """Takes the next events of keys. `may_keep` tells whether the worker takes more events."""

    def __init__(
        self, may_keep: Callable[[], bool], *, take: Callable[[Claim], None], poll: Callable[[], None]
    ) -> None:
        self._may_keep = may_keep
        self._take = take
        self._poll = poll
        self._in_a_row: dict[str, int] = {}

    @property
    def may_keep(self) -> bool:
        """Whether a settle may hand on the claim of the next event."""
        return self._may_keep()

    def on_settled(self, claim: Claim, following: Claim | None) -> None:
        """Take the next event of the key of a settled event, if the settle has handed it on."""
        handled = self._in_a_row.pop(claim.token, 0) + 1
        if following is not None:
            self._in_a_row[following.token] = handled
            self._take(following)
        elif handled >= BUSY_AFTER:
            self._poll()
