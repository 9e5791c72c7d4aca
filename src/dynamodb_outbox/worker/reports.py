"""Reports of errors: told in tasks of their own, so that a slow callback of the user's holds up no loop."""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.errors import OutboxError
from dynamodb_outbox.reporting import ErrorReporter

GRACE: Final = 5.0
"""Seconds that a stop waits for reports under way: a user's callback may have no end."""


class Reports:
    """Takes errors from anywhere in the event loop, and has them reported in a task group."""

    def __init__(self, reporter: ErrorReporter) -> None:
        self._reporter = reporter
        self._waiting: deque[OutboxError] = deque()
        self._telling = 0
        self._asked = anyio.Event()
        self._told = anyio.Event()

    def open(self, group: TaskGroup) -> None:
        """Let the reporting run in a group."""
        group.start_soon(self._run, group)

    def report(self, error: OutboxError) -> None:
        """Have an error reported; returns at once."""
        self._waiting.append(error)
        self._asked.set()

    async def finish(self) -> None:
        """Wait until nothing is left to be told."""
        while self._waiting or self._telling:
            self._told = anyio.Event()
            await self._told.wait()

    async def _run(self, group: TaskGroup) -> None:
        while True:
            self._asked = anyio.Event()
            while self._waiting:
                self._telling += 1
                group.start_soon(self._tell, self._waiting.popleft())
            await self._asked.wait()

    async def _tell(self, error: OutboxError) -> None:
        try:
            await self._reporter.report(error)
        finally:
            self._telling -= 1
            self._told.set()
