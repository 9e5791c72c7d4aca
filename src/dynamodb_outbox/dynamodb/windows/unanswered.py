"""Events of windows whose writes were not answered: find out about them, so that their windows can move on or end.

An event whose insert was not answered gets a tombstone. If the tombstone is stored, a late insert is refused. If the
tombstone is refused, the event is stored. A stored event whose outcome was not written is moved into the index.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.windows.fence import Fence
from dynamodb_outbox.dynamodb.windows.item import delete
from dynamodb_outbox.dynamodb.windows.opening import Opener
from dynamodb_outbox.dynamodb.windows.window import Entry, EntryState, Window
from dynamodb_outbox.errors import CredentialsError, StorageError
from dynamodb_outbox.reporting import Report


class UnansweredEvents:
    """Keeps the windows of a worker until each of their events has an answer, and clears up what got none."""

    def __init__(self, caller: Caller, *, opener: Opener, fence: Fence, within: float) -> None:
        self._caller = caller
        self._opener = opener
        self._fence = fence
        self._within = within
        self._lock = anyio.Lock()
        self.windows: list[Window] = []
        """The current window, and former windows that have open events or are not deleted yet."""
        self.wakeup = asyncio.Event()

    def wake(self) -> None:
        """Clear up now."""
        self.wakeup.set()

    def entry_of(self, claim: Claim) -> Entry | None:
        """Find the open event of a claim; None if the claim is in no window of this worker."""
        lease = claim.shared_lease
        if lease is None:
            return None
        return next((window.of_token(claim.token) for window in self.windows if window.lease is lease), None)

    async def step(self, report: Report) -> float:
        """Clear up; return the seconds until the next try."""
        with suppress(StorageError):
            if await self.clear_up():
                ends = (window.lease.ends for window in self.windows if _left_behind(window))
                return max(min(ends, default=math.inf) - anyio.current_time(), 0.0)
        return self._within / 5

    async def clear_up(self) -> bool:
        """Find out about all events without an answer, and delete closed windows; tell whether nothing is left."""
        async with self._lock:
            self._abandon_left_behind()
            if unsure := self._in_state(EntryState.UNSURE):
                await self._fence_off(unsure)
            for window in self.windows[:]:
                if abandoned := window.in_state(EntryState.ABANDONED):
                    await self._move_into_index(window, abandoned)
            for window in self.windows[:]:
                if window.is_closed and not window.open_count:
                    await self._delete(window)
                    self.windows.remove(window)
            return not self._in_state(EntryState.UNSURE, EntryState.ABANDONED)

    def _in_state(self, *states: EntryState) -> list[Entry]:
        return [entry for window in self.windows for entry in window.in_state(*states)]

    def _abandon_left_behind(self) -> None:
        """Have the events recovered that a former worker has left in its window, now that their lease is over."""
        now = anyio.current_time()
        for window in self.windows:
            if now >= window.lease.ends:
                for entry in _left_behind(window):
                    entry.state = EntryState.ABANDONED

    async def _fence_off(self, entries: list[Entry]) -> None:
        ids = [entry.event_id for entry in entries]
        voided = await self._fence.void(ids, within=self._within, inserts=self._opener.inserts)
        for entry in entries:
            match voided[entry.event_id]:
                case True:
                    entry.window.leave(entry)
                case False:
                    entry.state = EntryState.ABANDONED
                case None:
                    pass  # again with the next call

    async def _move_into_index(self, window: Window, entries: list[Entry]) -> None:
        ids = [entry.event_id for entry in entries]
        entered = await self._fence.enter(window.name, ids, within=self._within, max_retries=self._fence.max_retries)
        for entry in entries:
            if isinstance(entered.results[entry.event_id], (Applied, Refused)):
                window.leave(entry)

    async def _delete(self, window: Window) -> None:
        # A recovery may have taken the window. If the role lacks the permission, a recovery ends the window.
        with suppress(ConditionRefused, CredentialsError):
            await self._caller.call(
                "delete_item",
                within=self._within,
                TableName=self._caller.table_name,
                **delete(window.item_id, token=window.token, versions=window.versions),
            )


def _left_behind(window: Window) -> list[Entry]:
    """List the events without an outcome of a worker that has ended."""
    return window.in_state(EntryState.HELD) if window.is_closed else []
