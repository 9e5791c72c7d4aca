"""The window of this worker: when it opens, how it moves, and how it ends.

One write renews the leases of all its events, three times a lease. A worker that claims few events on emit has no
window: the writes for the window would cost more than they save. Then events are stored in the index, as PENDING
events are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Final

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.dynamodb.conditional.transitions import RENEW, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import millis
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.windows.fence import Fence
from dynamodb_outbox.dynamodb.windows.item import delete, extend
from dynamodb_outbox.dynamodb.windows.opening import Opener
from dynamodb_outbox.dynamodb.windows.window import Entry, EntryState, Window
from dynamodb_outbox.errors import OutboxError, PollingError, StorageError, WindowLostError, WorkerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.observers import PollingFailed, WindowLost
from dynamodb_outbox.port import Claim, OutboxOptions
from dynamodb_outbox.reporting import Report

OPEN_AT: Final = 10
"""A window opens when this many events were claimed on emit in a third of a lease. It then saves more than it costs."""
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


class WindowKeeper:
    """Keeps the window of one outbox. `enter` is called for each event that is claimed on emit.

    `run` renews, moves and ends the window. The parts that write outcomes call `answered` or `unanswered` for every
    claim, whether it is in the window or not.
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
        self._caller = caller
        self._writer = writer
        self._options = options
        self._opener = opener
        self._fence = fence
        self._enabled = enabled and options.claim_on_emit
        self._length = options.processing_timeout
        self._upkeep = timing.window_upkeep * options.processing_timeout
        self._pause = timing.window_pause
        self._window: Window | None = None
        self._former: list[Window] = []
        """Windows that are lost or deleted, some of whose events have no answer yet."""
        self._running = anyio.Lock()
        self._is_running = False
        self._changed = anyio.Event()
        self._entered = 0
        self._counted_from = -math.inf
        self._first_number = 0
        self._next_upkeep = math.inf
        self._pending: tuple[int, int] | None = None
        self._losses = 0
        self._paused_until = -math.inf
        self._errors = 0

    # What a write of events asks and tells

    @property
    def inserts(self) -> bool:
        """Whether DynamoDB takes PartiQL `INSERT`s, as far as is known. Without them, only single writes may enter."""
        return self._opener.inserts

    def enter(self, event: Event, token: str) -> Entry | None:
        """Let an event that is claimed on emit into the window, just before its write is sent; None if it cannot."""
        if not self._is_running:
            return None
        self._count()
        window, number = self._window, event.id_number
        if window is None or number is None or not window.covers(number) or self._is_over(window):
            return None
        entry = window.enter(number, event_id=event.id, token=token)
        if 2 * (window.end - number.number) < window.end - self._first_number:
            self._notify()
        return entry

    def stored(self, entry: Entry) -> None:
        """Note that an event is stored, and claimed under the shared lease of its window."""
        entry.state = EntryState.HELD

    def not_stored(self, entry: Entry) -> None:
        """Note that an event is not stored by this write, or that another worker has recovered it since."""
        entry.window.leave(entry)

    def maybe_stored(self, entry: Entry) -> None:
        """Note that the write of an event was not answered: find the event, or keep it from being stored later."""
        entry.state = EntryState.UNSURE
        self._notify()

    def refused_by_tombstone(self) -> None:
        """Note that a recovery has passed the number of an event: most likely the window is lost. Find out soon."""
        self._next_upkeep = -math.inf
        self._notify()

    # What the writes of outcomes tell

    def answered(self, claim: Claim) -> None:
        """Note that the outcome of a claim is written or refused, or that its renewal moved it into the index."""
        if claim.shared_lease is not None and (entry := self._entry_of(claim)) is not None:
            entry.window.leave(entry)

    def unanswered(self, claim: Claim) -> None:
        """Note that the outcome of a claim could not be written. The event is moved into the index until answered."""
        if claim.shared_lease is not None and (entry := self._entry_of(claim)) is not None:
            entry.state = EntryState.ABANDONED
            self._notify()

    # The upkeep

    async def run(self, report: Report) -> None:
        """Keep the window until cancelled. If two workers share the outbox, the second goes on when the first ends."""
        if not self._enabled:
            await anyio.sleep_forever()
        async with self._running:
            self._is_running = True
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._repeat, self._keep, report)
                    group.start_soon(self._repeat, self._clear_up, report)
            finally:
                self._is_running = False

    async def retire(self) -> None:
        """Delete the window, if none of its events is open. Otherwise recovery finds it when its lease has run out."""
        window, self._window = self._window, None
        if window is not None:
            window.is_closed = True
            self._former.append(window)
        with suppress(StorageError):
            await self._clear_up(_ignore)
            if window is not None and not window.open_count:
                await self._delete(window)

    async def _repeat(self, step: _Step, report: Report) -> None:
        while True:
            try:
                wait = await step(report)
            except (Exception, BaseException) as unforeseen:
                if not absorb_foreign_cancellation(unforeseen):
                    raise
                report(WorkerError(loop="renewal", cause=unforeseen))
                wait = self._upkeep / 10
            with anyio.move_on_after(wait):
                await self._changed.wait()
