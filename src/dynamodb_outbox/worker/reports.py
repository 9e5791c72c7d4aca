"""Reports of errors, in their own tasks, so that a slow `on_error` callback delays no loop.

During an outage, errors may come faster than an async `on_error` takes them. At most 100 calls run at once, and at most
10,000 errors wait. Beyond that, the oldest are dropped, and the log says how many.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.observers import logger
from dynamodb_outbox.reporting import ErrorReporter

CONCURRENT_REPORTS: Final = 100
"""This many calls of an async `on_error` run at once; further errors wait."""
MAX_WAITING_REPORTS: Final = 10_000
"""This many errors may wait; beyond it the oldest are dropped."""


class Reports:
    """Takes errors from anywhere in the event loop, and reports them in a task group."""

    def __init__(self, reporter: ErrorReporter, *, max_waiting: int = MAX_WAITING_REPORTS) -> None:
        self._reporter = reporter
        self._max_waiting = max_waiting
        self._waiting: deque[OutboxError] = deque()
        self._running = 0
        self._dropped = 0
        self._wakeup = anyio.Event()
        self._returned = anyio.Event()

    def open(self, group: TaskGroup) -> None:
        """Start reporting in a task group."""
        group.start_soon(self._run, group)

    def report(self, error: OutboxError) -> None:
        """Report an error in a task; returns at once."""
        self._reporter.note(error)
        self._waiting.append(error)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._dropped += 1
        self._wakeup.set()

    async def finish(self) -> None:
        """Wait until every error is reported."""
        while self._waiting or self._running:
            self._returned = anyio.Event()
            await self._returned.wait()

    async def _run(self, group: TaskGroup) -> None:
        try:
            while True:
                self._wakeup = anyio.Event()
                while self._waiting and self._running < CONCURRENT_REPORTS:
                    self._running += 1
                    group.start_soon(self._call, self._waiting.popleft())
                if not self._waiting:
                    self._log_dropped()
                await self._wakeup.wait()
        finally:
            # A stop waits a few seconds. Errors that still wait then are never reported.
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._log_dropped()

    def _log_dropped(self) -> None:
        """Log the number of errors that were dropped since the last time."""
        if self._dropped:
            logger.error(
                "dropped %s errors that waited to be reported, the oldest first, because errors came faster than "
                "on_error returned; let on_error put them into a queue and return at once",
                f"{self._dropped:,}",
            )
            self._dropped = 0

    async def _call(self, error: OutboxError) -> None:
        try:
            await self._reporter.report(error)
        finally:
            self._running -= 1
            self._returned.set()
            if self._waiting:
                self._wakeup.set()
