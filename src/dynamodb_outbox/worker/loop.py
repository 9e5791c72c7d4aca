"""Repeating a step until the worker stops: sleeping, waking, and backing off after errors."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import PollingError, StorageError, WorkerError
from dynamodb_outbox.observers import Observers, PollingFailed
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.backoff import polling_delay

Step = Callable[[], Awaitable[float]]
"""Does one piece of work, and returns the seconds until the next; 0 is at once."""

GRAIN: Final = 100
"""Wake-up times are kept in hundredths of a second, however many events are delayed."""


class Wakeup:
    """A sleep that can be cut short, now or at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._woken = anyio.Event()
        self._times: list[int] = []
        self._known: set[int] = set()

    def wake(self) -> None:
        """End the present sleep, or the next."""
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
        """Sleep until the seconds are over, or something wakes it."""
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
    """Runs a step again and again. Whatever the step raises is reported, and ends nothing."""

    def __init__(
        self, name: str, step: Step, *, wakeup: Wakeup, interval: float, report: Report, observers: Observers
    ) -> None:
        self._name = name
        self._step = step
        self._wakeup = wakeup
        self._interval = interval
        self._report = report
        self._observers = observers
        self._stopping = anyio.Event()
        self.ended = anyio.Event()

    def stop(self) -> None:
        """Let the cycle end after the step that is under way."""
        self._stopping.set()
        self._wakeup.wake()

    @property
    def is_stopping(self) -> bool:
        """Whether the cycle is to end."""
        return self._stopping.is_set()

    async def run(self) -> None:
        """Repeat the step until `stop`."""
        try:
            await self._repeat()
        finally:
            self.ended.set()

    async def _repeat(self) -> None:
        errors = 0
        while not self.is_stopping:
            try:
                seconds = await self._step()
            except (Exception, asyncio.CancelledError) as error:
                if not absorb_foreign_cancellation(error):
                    raise
                errors += 1
                seconds = polling_delay(errors, interval=self._interval)
                if self._observers:
                    self._observers.notify(PollingFailed(loop=self._name, errors=errors, retry_in=seconds, error=error))
                if isinstance(error, StorageError):
                    self._report(PollingError(loop=self._name, errors=errors, retry_in=seconds, cause=error))
                else:
                    self._report(WorkerError(loop=self._name, cause=error))
                # A backoff is not to be cut short by an emit.
                with anyio.move_on_after(seconds):
                    await self._stopping.wait()
            else:
                errors = 0
                if seconds > 0 and not self.is_stopping:
                    await self._wakeup.sleep(seconds)
