"""The ids that this process is storing: one write of an id at a time.

A BatchWriteItem takes no condition. A second write of one of its ids, by a caller who gave up the first one and repeats
it, or by another task, could be carried out before it, and the event be claimed and completed; the batch would then set
it back. So the second one waits until the first is answered, and is conditional.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable


class InFlight:
    """Keeps ids while they are written; the writes of one event loop share it."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    async def enter(self, event_ids: Collection[str]) -> frozenset[str]:
        """Wait until nobody else writes one of the ids, and keep others from them; returns the ids it waited for.

        Each id must be given to `leave` once its write is answered, or was not sent. Raises nothing but cancellation;
        no id is kept then.
        """
        waited_for: set[str] = set()
        while taken := [event_id for event_id in event_ids if event_id in self._waiters]:
            waited_for.update(taken)
            free = asyncio.get_running_loop().create_future()
            self._waiters[taken[0]].append(free)
            await free
        for event_id in event_ids:
            self._waiters[event_id] = []
        return frozenset(waited_for)

    def leave(self, event_id: str) -> None:
        """Let the next write of an id begin; a second call changes nothing."""
        for free in self._waiters.pop(event_id, ()):
            if not free.done():
                free.set_result(None)

    def among(self, event_ids: Iterable[str]) -> list[str]:
        """List those of the ids that are being written."""
        return [event_id for event_id in event_ids if event_id in self._waiters]
