"""Loops that repeat a step until the worker stops. They sleep, are woken, and wait longer after errors."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import PollingError, StorageError, WorkerError
from dynamodb_outbox.observers import PollingFailed
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.backoff import polling_delay
from dynamodb_outbox.worker.heartbeat import LoopHeartbeat
from dynamodb_outbox.worker.vitals import Vitals

Step = Callable[[], Awaitable[float]]
"""Does one piece of work, and returns the seconds until the next one is due."""

GRAIN: Final = 100
"""Wake-up times are rounded up to a hundredth of a second. A thousand events due in one second need 100 entries."""


class Wakeup:
    """A sleep that can be ended early, at once or at a given time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._woken = anyio.Event()
        self._times: list[int] = []
        self._known: set[int] = set()

    def wake(self) -> None:
        """End the present sleep, or the next one."""
        self._woken.set()

    def wake_at(self, time: float) -> None:
        """End a sleep at a time (epoch seconds)."""
        grains = math.ceil(time * GRAIN)
        if grains not in self._known:
            self._known.add(grains)
            heapq.heappush(self._times, grains)
            if grains == self._times[0]:
                self.wake()

    async def sleep(self, seconds: float) -> None:
        """Sleep for the seconds, or until `wake`, or until the first time of `wake_at`."""
        now = self._clock()
        while self._times and self._times[0] <= now * GRAIN:
            self._known.discard(heapq.heappop(self._times))
            self.wake()
        if self._times:
            seconds = min(seconds, self._times[0] / GRAIN - now)
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._woken = anyio.Event()


class PollingLoop:
    """Repeats a step until it is stopped. Whatever the step raises is reported, and does not end the loop.

    `ready` is awaited before each step, for example until a slot is free. A stop interrupts that, and the sleep between
    two steps, but not a step: what a step has claimed has to be released.
    """

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        outbox: Outbox,
        wakeup: Wakeup,
        report: Report,
        ready: Callable[[], Awaitable[None]] | None = None,
        vitals: Vitals | None = None,
    ) -> None:
        self._name = name
        self._heartbeat = LoopHeartbeat() if vitals is None else vitals.loops[name]
        self._step = step
        self._ready = ready
        self._interval = outbox.options.poll_interval
        self._observers = outbox.observers
        self._wakeup = wakeup
        self._report = report
        self._scope = anyio.CancelScope()
        self._step_scope = anyio.CancelScope()
        self._step_deadline = math.inf
        self.done = anyio.Event()

    def stop(self) -> None:
        """End the loop now, or after the step that is under way."""
        self._scope.cancel()

    def abandon_at(self, deadline: float) -> None:
        """Cancel a step that is still under way at a time (event loop time)."""
        self._step_scope.deadline = self._step_deadline = deadline

    async def run(self) -> None:
        """Repeat the step until `stop`."""
        try:
            with self._scope:
                await self._repeat()
        finally:
            self.done.set()

    async def _repeat(self) -> None:
        errors = 0
        while True:
            # A loop with much to do may reach no other point where a cancellation is delivered.
            await anyio.lowlevel.checkpoint_if_cancelled()
            seconds, error = await self._take_step()
            self._heartbeat.turn(error)
            if error is not None:
                errors += 1
                seconds = polling_delay(errors, interval=self._interval)
                self._report_error(error, errors=errors, retry_in=seconds)
                # An emit ends the sleep of a wakeup. It must not end a backoff.
                await anyio.sleep(seconds)
            else:
                errors = 0
                if seconds > 0:
                    await self._wakeup.sleep(seconds)

    async def _take_step(self) -> tuple[float, BaseException | None]:
        """Take a step; return the seconds to the next step, or what the step raised."""
        try:
            if self._ready is not None:
                self._heartbeat.wait()
                await self._ready()
                self._heartbeat.step()
            with anyio.CancelScope(shield=True, deadline=self._step_deadline) as self._step_scope:
                try:
                    return await self._step(), None
                except asyncio.CancelledError as error:
                    # Inside the shield, because a stop has cancelled the scope around it: that does not make the
                    # cancellation of what the step awaits the worker's own.
                    if not absorb_foreign_cancellation(error):
                        raise
                    return 0.0, error
        except (Exception, asyncio.CancelledError) as error:
            if not absorb_foreign_cancellation(error):
                raise
            return 0.0, error
        return 0.0, None

    def _report_error(self, error: BaseException, *, errors: int, retry_in: float) -> None:
        if self._observers:
            self._observers.notify(PollingFailed(loop=self._name, errors=errors, retry_in=retry_in, error=error))
        if isinstance(error, StorageError):
            self._report(PollingError(loop=self._name, errors=errors, retry_in=retry_in, cause=error))
        else:
            self._report(WorkerError(loop=self._name, cause=error))
