"""The window item of this worker over time: when it opens, how it is renewed and moved, and how it ends.

One write renews the leases of all events of the window, three times a lease. A worker that claims few events on emit
has no window, because the writes for the window would cost more than they save.
"""

from __future__ import annotations

import math
from secrets import token_hex

import anyio

from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.windows.activity import LEAST_AHEAD, STRAGGLER_SPAN, Activity
from dynamodb_outbox.dynamodb.windows.item import extend
from dynamodb_outbox.dynamodb.windows.opening import Opener, Opening
from dynamodb_outbox.dynamodb.windows.stragglers import move_into_index
from dynamodb_outbox.dynamodb.windows.unanswered import UnansweredEvents
from dynamodb_outbox.dynamodb.windows.window import EntryState, Window
from dynamodb_outbox.errors import PollingError, StorageError, WindowLostError
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.observers import PollingFailed, WindowLost, WindowOpened
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.reporting import Report


class Upkeep:
    """Opens, extends and closes the window of an outbox. `current` is the window that events may enter."""

    def __init__(
        self,
        caller: Caller,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        opener: Opener,
        unanswered: UnansweredEvents,
        timing: Timing,
    ) -> None:
        self.current: Window | None = None
        self._caller = caller
        self._writer = writer
        self._options = options
        self._opener = opener
        self._unanswered = unanswered
        self._length = options.processing_timeout
        self._period = timing.window_upkeep * options.processing_timeout
        self._pause = timing.window_pause
        self._activity = Activity(self._period)
        self._opening: Opening | None = None
        """A window whose insert was not answered yet: the next try sends the same item."""
        self._extension: tuple[int, int] | None = None
        """The start and end of a write that was not answered yet: the next try sends the same."""
        self._due_at = math.inf
        self._grow_at = 0
        self._losses = 0
        self._paused_until = -math.inf
        self._errors = 0

    def count(self, now: float) -> bool:
        """Count an event that is claimed on emit; tell whether enough were counted to open a window."""
        if self.current is None and self._activity.is_over(now):
            self._activity.begin(now)
        self._activity.count()
        return self.current is None and self._opening is None and self._activity.is_worthwhile(now)

    def needs_more(self, number: int) -> bool:
        """Tell whether the window is to be moved on, now that an event with this number is emitted."""
        return number >= self._grow_at

    def check_soon(self) -> None:
        """Renew the window with the next step: it may be lost."""
        self._due_at = -math.inf

    def is_over(self, window: Window) -> bool:
        """Tell whether the lease has run out, by either clock: a virtual machine that was suspended misses one."""
        return anyio.current_time() >= window.lease.ends or self._options.clock() >= window.lease.expires_at

    async def step(self, report: Report) -> float:
        """Open, extend or close the window, if it is time; return the seconds until the next time."""
        window, now = self.current, anyio.current_time()
        if window is None:
            return await self._open_if_worthwhile(now)
        if self.is_over(window):
            self._lose(window, report)
            return 0.0
        is_due = now >= self._due_at
        if is_due and not window.open_count and (self._activity.is_low or window.seed != event_ids.seed):
            self.close()
            return 0.0
        if is_due or self._can_grow(window, now):
            await self._extend(window, report)
            if is_due:
                self._activity.begin(now)
            await self._move_stragglers(window)
        return max(min(self._due_at, window.lease.ends) - anyio.current_time(), 0.0)

    def close(self) -> None:
        """Let no more events enter. The window is deleted once each of its events has an answer."""
        if (window := self.current) is not None:
            self.current, self._extension = None, None
            window.is_closed = True
            self._unanswered.wake()

    # Opening

    async def _open_if_worthwhile(self, now: float) -> float:
        if now < self._paused_until:
            return self._paused_until - now
        if self._opening is None:
            if not self._activity.is_worthwhile(now):
                return math.inf
            seed, start = event_ids.start_numbering(), event_ids.next_number
            self._opening = self._opener.prepare(seed=seed, start=start, end=start + LEAST_AHEAD)
        opening = self._opening
        if now >= opening.ends:
            # No event has entered it. If it was stored, recovery ends it.
            self._opening = None
            return 0.0
        try:
            is_ours = await self._opener.store(opening, within=self._period / 2)
        except StorageError:
            # Emits work without a window, and report the error if it lasts.
            return self._period / 10
        self._opening = None
        if is_ours:
            self._start(opening.opened())
        return 0.0

    def _start(self, window: Window) -> None:
        self.current, self._extension = window, None
        self._unanswered.windows.append(window)
        self._due_at = window.lease.ends - self._length + self._period
        self._grow_at = window.start + LEAST_AHEAD // 2
        self._activity.begin(anyio.current_time())
        if observers := self._caller.observers:
            observers.notify(WindowOpened(window=window.name))

    # Losing

    def _lose(self, window: Window, report: Report) -> None:
        """Cancel the handlers of the window's events: a recovery makes the events due, or has done so."""
        self.close()
        if window.seed == event_ids.seed:
            event_ids.change_seed()
        for entry in window.in_state(EntryState.HELD):
            entry.state = EntryState.ABANDONED
        self._losses += 1
        if self._losses > 1:
            self._paused_until = anyio.current_time() + self._pause
        events = window.open_count
        window.lease.lose()
        report(WindowLostError(window=window.name, events=events, table_name=self._caller.table_name))
        if observers := self._caller.observers:
            observers.notify(WindowLost(window=window.name, events=events))

    # Extending

    async def _extend(self, window: Window, report: Report) -> None:
        """Renew the lease of all events of the window, and move its two ends, with one write."""
        if self._extension is None:
            self._extension = self._activity.range_of(window, now=anyio.current_time())
        # Also for a repeat: if the first attempt arrives after it, it must not set the lease back.
        version, earlier = token_hex(6), tuple(window.versions)
        window.versions.append(version)
        # From now on no number below may be used: the write may be applied, and its response lost.
        window.start, end = self._extension
        now, at = anyio.current_time(), self._options.clock()
        self._due_at = now + self._period
        try:
            await self._caller.call(
                "update_item",
                # Not beyond the end of the lease, when the window is lost.
                within=min(self._period / 2, window.lease.ends - now),
                TableName=self._caller.table_name,
                **extend(
                    window.item_id,
                    token=window.token,
                    start=window.start,
                    end=end,
                    version=version,
                    earlier=earlier,
                    deadline=at + self._length,
                ),
            )
        except ConditionRefused:
            self._lose(window, report)
            return
        except StorageError as error:
            self._report_failure(error, report)
            return
        self._extension, self._errors, self._losses = None, 0, 0
        window.versions = [version]
        window.end = end
        window.lease.renew(expires_at=at + self._length, ends=now + self._length)
        self._grow_at = end - (end - event_ids.next_number) // 2

    def _can_grow(self, window: Window, now: float) -> bool:
        following = event_ids.next_number
        if following < self._grow_at or self._errors:
            return False
        if self._activity.range_of(window, now=now)[1] > window.end:
            return True
        # An event that still runs keeps the window from growing. Until it moves on, others are stored in the index.
        self._grow_at = following + LEAST_AHEAD // 2
        return False

    async def _move_stragglers(self, window: Window) -> None:
        stragglers = window.held_below(event_ids.next_number - STRAGGLER_SPAN)
        if stragglers and not window.is_closed:
            await move_into_index(
                window, stragglers, writer=self._writer, options=self._options, within=self._period / 2
            )

    def _report_failure(self, error: StorageError, report: Report) -> None:
        self._errors += 1
        retry_in = self._period / 6
        self._due_at = anyio.current_time() + retry_in
        report(PollingError(loop="renewal", errors=self._errors, retry_in=retry_in, cause=error))
        if observers := self._caller.observers:
            observers.notify(PollingFailed(loop="renewal", errors=self._errors, retry_in=retry_in, error=error))
