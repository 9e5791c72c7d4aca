"""Reports of errors: told in separate tasks, so that a slow callback of the user's holds up no loop.

An outage can make errors faster than an async `on_error` takes them. So 100 calls run at once, and of the errors that
wait for their turn the oldest are dropped beyond 10,000. The log tells how many were.
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
"""Calls of an async `on_error` that run at once; further errors wait for their turn."""
MAX_WAITING_REPORTS: Final = 10_000
"""Errors that wait for their turn; beyond it the oldest are dropped, and the log tells how many."""


class Reports:
    """Takes errors from anywhere in the event loop, and has them reported in a task group."""

    def __init__(self, reporter: ErrorReporter, *, max_waiting: int = MAX_WAITING_REPORTS) -> None:
        self._reporter = reporter
        self._max_waiting = max_waiting
        self._waiting: deque[OutboxError] = deque()
        self._telling = 0
        self._dropped = 0
        self._asked = anyio.Event()
        self._told = anyio.Event()

    def open(self, group: TaskGroup) -> None:
        """Let the reporting run in a group."""
        group.start_soon(self._run, group)

    def report(self, error: OutboxError) -> None:
        """Have an error reported; returns at once."""
        self._waiting.append(error)
        if len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._dropped += 1
        self._asked.set()

    async def finish(self) -> None:
        """Wait until nothing is left to be told."""
        while self._waiting or self._telling:
            self._told = anyio.Event()
            await self._told.wait()

    async def _run(self, group: TaskGroup) -> None:
        try:
            while True:
                self._asked = anyio.Event()
                while self._waiting and self._telling < CONCURRENT_REPORTS:
                    self._telling += 1
                    group.start_soon(self._tell, self._waiting.popleft())
                if not self._waiting:
                    self._log_dropped()
                await self._asked.wait()
        finally:
            # A stop does not wait for ever: what still has no turn then is never told.
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._log_dropped()

    def _log_dropped(self) -> None:
        """Log the number of errors that were dropped, once for each flood."""
        if self._dropped:
            logger.error(
                "dropped %s errors that waited to be reported, the oldest first: on_error takes longer than errors "
                "take to arrive; let it hand them to a queue, and return at once",
                f"{self._dropped:,}",
            )
            self._dropped = 0

    async def _tell(self, error: OutboxError) -> None:
        try:
            await self._reporter.report(error)
        finally:
            self._telling -= 1
            self._told.set()
            if self._waiting:
                self._asked.set()
