"""The ids that this process is storing: one write of an id at a time.

A BatchWriteItem has no conditions. Suppose that a caller gives up an emit and repeats it: DynamoDB may execute the
second write first, a worker completes the event, and then the first write resets the event to PENDING. So the second
write of an id waits for the response to the first write, and has a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from weakref import WeakKeyDictionary, WeakValueDictionary


class InFlight:
    """Keeps ids while they are written."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    async def enter(self, event_ids: Collection[str]) -> None:
        """Wait until no other task writes one of the ids, and keep the ids from other tasks.

        Call `leave` for each id once its write is answered, or was not sent. A cancelled call keeps no id.
        """
        while taken := [event_id for event_id in event_ids if event_id in self._waiters]:
            free = asyncio.get_running_loop().create_future()
            self._waiters[taken[0]].append(free)
            await free
        for event_id in event_ids:
            self._waiters[event_id] = []

    def try_enter(self, event_ids: Collection[str]) -> bool:
        """Keep the ids, if no task writes one of them; tell whether they are kept. The usual case needs no await."""
        if any(event_id in self._waiters for event_id in event_ids):
            return False
        for event_id in event_ids:
            self._waiters[event_id] = []
        return True

    def leave(self, event_id: str) -> None:
        """Let the next write of an id begin; a second call changes nothing."""
        for free in self._waiters.pop(event_id, ()):
            if not free.done():
                free.set_result(None)

    def has(self, event_id: str) -> bool:
        """Tell whether an id is being written."""
        return event_id in self._waiters


_Tables = WeakValueDictionary[str, InFlight]
# Of the process, since two outboxes of one table know nothing of each other. It holds no loop and no outbox.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Tables] = WeakKeyDictionary()


class TableInFlight:
    """Finds the ids that are being written to a table: all outboxes of an event loop with that table share them."""

    def __init__(self, table_name: str) -> None:
        self._table_name = table_name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_flight = InFlight()

    def of_running_loop(self) -> InFlight:
        """Find the ids that the running loop is writing."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            tables = _shared.setdefault(loop, WeakValueDictionary())
            self._in_flight = tables.setdefault(self._table_name, InFlight())
            self._loop = loop
        return self._in_flight

    def among(self, event_ids: Iterable[str]) -> list[str]:
        """List which of the ids are being written; may be called from any thread."""
        if self._loop is None:
            try:
                self.of_running_loop()
            except RuntimeError:
                return []
        # Not of the loop that runs here: an outbox serves one.
        in_flight = self._in_flight
        return [event_id for event_id in event_ids if in_flight.has(event_id)]
