"""The gate between claims and handlers: a worker starts no event whose type is held.

The gate reads the holds at most every five seconds, and only while claims come: an idle worker reads nothing. A claim
that comes later than five seconds after the last read waits for the next one, usually for some milliseconds; the read
for an event that is emitted here runs while the event is being stored. A handler that waits for a permit of its
concurrency asks again when it has one, and an event that waits in the quarantine passes the gate again. So a worker
starts no event of a type that has been held for more than five seconds. While the holds cannot be read, the worker goes
by the holds that it read last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.observers import logger
from dynamodb_outbox.outcome import Held, Outcome, Released
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.wording import describe
from dynamodb_outbox.worker.timing import Timing

_Start = Callable[[Claim], None]


class HoldGate:
    """Passes claims on: to `start`, or to `settle` with the outcome of an event that is held."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        start: _Start,
        settle: Callable[[Claim, Outcome], None],
        timing: Timing,
    ) -> None:
        self._outbox = outbox
        self._start = start
        self._settle = settle
        self._read_every = timing.holds_seconds
        self._read_within = min(timing.holds_read_seconds, outbox.options.processing_timeout / 3)
        self._clock = outbox.options.clock
        self._group: TaskGroup | None = None
        self._waiting: deque[tuple[Claim, _Start]] = deque()
        self._fresh_until = float("-inf")
        self._is_reading = False
        self._read_ended = anyio.Event()
        self._failed = False
        self.known: tuple[Hold, ...] = ()
        """The holds that were read last. Some may be over by now."""

    def open(self, group: TaskGroup) -> None:
        """Read holds in a task group, which must outlive the claims."""
        self._group = group

    def close(self) -> None:
        """Pass on every claim that waits, and from now on each claim at once."""
        self._group = None
        self._pass_waiting()

    # Questions

    @property
    def is_fresh(self) -> bool:
        """Whether the holds were read lately."""
        return asyncio.get_running_loop().time() < self._fresh_until

    @property
    def holds_all(self) -> bool:
        """Whether all types are held, as far as is known."""
        return bool(self.known) and self._is_held(None)

    def holds(self, event_type: str) -> bool:
        """Tell whether events of a type are held, as far as is known."""
        return bool(self.known) and (self._is_held(None) or self._is_held(event_type))

    def _is_held(self, event_type: str | None) -> bool:
        now = self._clock()
        return any(
            hold.type == event_type and (hold.until is None or hold.until.timestamp() > now) for hold in self.known
        )

    def forget(self) -> None:
        """Read the holds again before the next claim is passed on."""
        self._fresh_until = float("-inf")

    # Claims

    def take(self, claim: Claim, start: _Start | None = None) -> None:
        """Pass a claim on, now or once the holds are read; to another `start` if it has waited behind the gate."""
        start = start or self._start
        if self._group is None or self.is_fresh:
            self.pass_on(claim, start)
        else:
            self._waiting.append((claim, start))
            self.read_soon()

    def pass_on(self, claim: Claim, start: _Start) -> None:
        """Start a claim, unless it is held."""
        if not self.known or not self.holds(claim.event.type):
            start(claim)
        elif self._is_held(None):
            self._settle(claim, Released(unhandled_since=claim.unhandled_since))
        else:
            due_at = self._clock() if claim.due_at is None else claim.due_at
            self._settle(claim, Held(due_at=due_at))

    def _pass_waiting(self) -> None:
        while self._waiting:
            self.pass_on(*self._waiting.popleft())

    # Reads

    def read_soon(self) -> None:
        """Read the holds in a task, unless they were read lately or are being read."""
        if self._group is not None and not self._is_reading and not self.is_fresh:
            self._is_reading = True
            self._group.start_soon(self._read_for_waiting)

    async def is_held_now(self, event_type: str) -> bool:
        """Tell whether events of a type are held, after a read of the holds if the last one is too old."""
        if self._group is not None and not self.is_fresh:
            self.read_soon()
            await self._read_ended.wait()
        return self.holds(event_type)

    async def refresh(self) -> None:
        """Read the holds, unless they were read lately."""
        if not self.is_fresh:
            await self._read()

    async def _read_for_waiting(self) -> None:
        try:
            await self._read()
            if not self.is_fresh:
                # The process stood still meanwhile: a hold that was stored since the request is not in the answer.
                await self._read()
        finally:
            self._is_reading = False
            self._read_ended.set()
            self._read_ended = anyio.Event()
            self._pass_waiting()

    async def _read(self) -> None:
        """Read the holds. After an error, go by what is known, and read again after the usual time."""
        error: BaseException | None = None
        # The answer may be from the moment of the request: a hold that is stored a moment later is not in it.
        asked_at = asyncio.get_running_loop().time()
        try:
            with anyio.fail_after(self._read_within):
                self.known = tuple(await self._outbox.holds())
        except (Exception, asyncio.CancelledError) as raised:
            if not absorb_foreign_cancellation(raised):
                raise
            error = raised
        self._fresh_until = asked_at + self._read_every
        if error is not None and not self._failed:
            logger.warning(
                "the holds could not be read, so the worker goes by the %d that it read before: %s. It tries again",
                len(self.known),
                describe(error),
            )
        self._failed = error is not None
