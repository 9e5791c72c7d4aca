"""The window of this worker, as the writes of events and of outcomes see it.

An event that is claimed on emit enters the window just before its write is sent, and leaves it once DynamoDB has
answered that the event is completed, in the index, or not stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.windows.fence import Fence
from dynamodb_outbox.dynamodb.windows.opening import Opener
from dynamodb_outbox.dynamodb.windows.unanswered import UnansweredEvents
from dynamodb_outbox.dynamodb.windows.upkeep import Upkeep
from dynamodb_outbox.dynamodb.windows.window import Entry, EntryState
from dynamodb_outbox.errors import StorageError, WorkerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.reporting import Report

_Step = Callable[[Report], Awaitable[float]]


class WindowKeeper:
    """Keeps the window of one outbox. `enter` is called for each event that is claimed on emit.

    The parts that write outcomes call `answered` or `unanswered` for every claim, whether it is in the window or not.
    """

    def __init__(
        self,
        caller: Caller,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        opener: Opener,
        fence: Fence,
        timing: Timing,
        enabled: bool,
    ) -> None:
        self._opener = opener
        self._enabled = enabled and options.claim_on_emit
        period = timing.window_upkeep * options.processing_timeout
        self._retry_in = period / 10
        self._unanswered = UnansweredEvents(caller, opener=opener, fence=fence, within=period / 2)
        self._upkeep = Upkeep(caller, writer, options, opener=opener, unanswered=self._unanswered, timing=timing)
        self._wakeup = asyncio.Event()
        self._running = anyio.Lock()
        self._is_running = False

    # What the writes of events ask and tell

    @property
    def inserts(self) -> bool:
        """Whether DynamoDB takes PartiQL `INSERT`s, as far as is known."""
        return self._opener.inserts

    async def takes_inserts(self, *, within: float) -> bool:
        """Tell whether DynamoDB takes `INSERT`s; find out first, if that is not known. Raises `StorageError`."""
        return await self._opener.takes_inserts(within=within)

    def enter(self, event: Event, token: str) -> Entry | None:
        """Let an event that is claimed on emit into the window, just before its write is sent; None if it cannot."""
        # Counted before `run` has begun, too: the first emits of a worker may come before its tasks.
        if self._upkeep.count(asyncio.get_running_loop().time()):
            self._wakeup.set()
        if not self._is_running:
            return None
        window, number = self._upkeep.current, event.id_number
        if window is None or number is None:
            return None
        if self._upkeep.needs_more(number.number):
            self._wakeup.set()
        if not window.covers(number) or self._upkeep.is_over(window):
            return None
        return window.enter(number, event_id=event.id, token=token)

    def stored(self, entry: Entry) -> None:
        """Note that an event is stored, and claimed under the shared lease of its window."""
        if entry.window.lease.is_lost:
            self._abandon(entry)
        else:
            entry.state = EntryState.HELD

    def not_stored(self, entry: Entry) -> None:
        """Note that an event is not stored by this write, or that a recovery has found it already."""
        entry.window.leave(entry)

    def maybe_stored(self, entry: Entry) -> None:
        """Note that the write of an event was not answered: find the event, or keep it from being stored later."""
        entry.state = EntryState.UNSURE
        self._unanswered.wake()

    def refused_by_tombstone(self) -> None:
        """Note that a recovery has passed the number of an event: most likely the window is lost. Find out now."""
        self._upkeep.check_soon()
        self._wakeup.set()

    # What the writes of outcomes tell

    def answered(self, claim: Claim) -> None:
        """Note that the outcome of a claim is written or refused, or that its renewal has moved it into the index."""
        if (entry := self._unanswered.entry_of(claim)) is not None:
            entry.window.leave(entry)

    def unanswered(self, claim: Claim) -> None:
        """Note that the outcome of a claim could not be written. The event is moved into the index instead.

        Not for renewals, and not for the record of one handler: the event still runs, and would become PENDING.
        """
        if (entry := self._unanswered.entry_of(claim)) is not None:
            self._abandon(entry)

    # The worker

    async def run(self, report: Report) -> None:
        """Keep the window until cancelled. If two workers share the outbox, the second goes on when the first ends."""
        if not self._enabled:
            await anyio.sleep_forever()
        async with self._running:
            self._is_running = True
            try:
                async with anyio.create_task_group() as group:
                    # Two loops, because a renewal must not wait for the events that have no answer.
                    group.start_soon(self._repeat, self._upkeep.step, self._wakeup, report)
                    group.start_soon(self._repeat, self._unanswered.step, self._unanswered.wakeup, report)
            finally:
                self._is_running = False

    def prepare(self) -> None:
        """Get ready for a worker: no event enters the window of a former one, which nobody renews any more.

        A worker whose task was cancelled has not retired, and may have left events without an outcome. If the window
        were renewed, nobody would recover them.
        """
        if not self._running.locked():
            self._upkeep.close()

    async def retire(self) -> None:
        """Delete the window, if none of its events is open. Otherwise recovery finds it when its lease has run out.

        If another worker shares the outbox, it has the window now.
        """
        if self._running.locked():
            return
        self._upkeep.close()
        with suppress(StorageError):
            await self._unanswered.clear_up()

    async def _repeat(self, step: _Step, wakeup: asyncio.Event, report: Report) -> None:
        while True:
            wakeup.clear()
            try:
                wait = await step(report)
            except (Exception, asyncio.CancelledError) as unforeseen:
                if not absorb_foreign_cancellation(unforeseen):
                    raise
                report(WorkerError(loop="renewal", cause=unforeseen))
                wait = self._retry_in
            with anyio.move_on_after(wait):
                await _wait_for(wakeup)

    def _abandon(self, entry: Entry) -> None:
        entry.state = EntryState.ABANDONED
        self._unanswered.wake()


async def _wait_for(wakeup: asyncio.Event) -> None:
    """Wait. A cancellation by other code ends the wait, and not the loop: the leases of handlers depend on it."""
    try:
        await wakeup.wait()
    except asyncio.CancelledError as cancelled:
        if not absorb_foreign_cancellation(cancelled):
            raise
