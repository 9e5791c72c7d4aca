"""Shared leases: the adapter renews them as long as the worker may hold events."""

from __future__ import annotations

import asyncio

import anyio
from anyio.abc import TaskGroup

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import WorkerError
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.reporting import Report
from dynamodb_outbox.worker.timing import Timing


class SharedLeases:
    """Runs `keep_leases` of the port. An error of it is reported, and a little later it is called again."""

    def __init__(self, outbox: Outbox, *, report: Report, timing: Timing) -> None:
        self._outbox = outbox
        self._report = report
        self._pause = timing.together_part * outbox.options.processing_timeout
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()

    def open(self, group: TaskGroup) -> None:
        """Start the renewal in a task group."""
        group.start_soon(self._run)

    async def close(self) -> None:
        """End the renewal, and wait for its end."""
        self._scope.cancel()
        await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                pause = 0.0
                while await self._is_to_be_repeated(pause):
                    pause = self._pause
        finally:
            self._ended.set()

    async def _is_to_be_repeated(self, pause: float) -> bool:
        try:
            await anyio.sleep(pause)
            await self._outbox.keep_leases(report=self._report)
        except (Exception, asyncio.CancelledError) as unforeseen:
            if not absorb_foreign_cancellation(unforeseen):
                raise
            self._report(WorkerError(loop="renewal", cause=unforeseen))
            return True
        return False
