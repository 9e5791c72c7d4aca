"""Collects entries from many callers for a few milliseconds, and sends them together."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")

Send = Callable[[list[T]], Awaitable[Sequence[Exception | None]]]
"""Sends a batch, and returns the result of each entry, in their order: None, or the error of the entry."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T]):
    entry: T
    size: int
    due: float
    result: asyncio.Future[None]


class Batcher(Generic[T]):
    """Packs entries into batches by count and bytes. Each caller gets the result of its own entry.

    A batch is sent when it is full, or when its oldest entry has waited for `linger` seconds. At most `max_in_flight`
    batches are under way at a time; meanwhile, entries wait. An entry larger than `max_bytes` is sent alone. If `send`
    raises an exception, each entry of its batch gets the exception.
    """

    def __init__(
        self, send: Send[T], *, max_entries: int, max_bytes: int, linger: float, max_in_flight: int = 10
    ) -> None:
        self._send = send
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._linger = linger
        self._max_in_flight = max_in_flight
        self._waiting: deque[_Waiting[T]] = deque()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, entry: T, size: int) -> None:
        """Send an entry of `size` bytes, and return when it has arrived. Raises the error of this entry.

        If the caller is cancelled, an entry that still waits is not sent; a batch that is under way goes on.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, size, loop.time() + self._linger, loop.create_future())
        self._waiting.append(waiting)
        self._bytes += size
        # By count and bytes only: all callers of this turn of the loop go together, however slow the machine is.
        self._start_batches(loop, until=-math.inf)
        try:
            await waiting.result
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._bytes -= size
            raise

    async def flush(self) -> None:
        """Send what waits without further delay, and wait until it has arrived, and what is under way.

        It does not wait for entries that come later, such as those of another bus.
        """
        loop = asyncio.get_running_loop()
        for waiting in self._waiting:
            waiting.due = loop.time()
        self._start_due_batches(loop)
        pending = {*self._tasks, *(waiting.result for waiting in self._waiting)}
        if pending:
            await asyncio.wait(pending)

    def _start_due_batches(self, loop: asyncio.AbstractEventLoop) -> None:
        self._start_batches(loop, until=loop.time())

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._start_due_batches(loop)

    def _start_batches(self, loop: asyncio.AbstractEventLoop, *, until: float) -> None:
        while self._waiting and len(self._tasks) < self._max_in_flight and self._is_time(until):
            # The batch belongs to many callers, so it runs in the context of none of them.
            batch = self._take()
            task = loop.create_task(self._deliver(batch), name="dynamodb-outbox batch", context=Context())
            self._tasks.add(task)
            task.add_done_callback(partial(self._on_done, batch))
        self._set_timer(loop)

    def _is_time(self, until: float) -> bool:
        is_full = len(self._waiting) >= self._max_entries or self._bytes >= self._max_bytes
        return is_full or self._waiting[0].due <= until

    def _take(self) -> list[_Waiting[T]]:
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < self._max_entries and size + self._waiting[0].size <= self._max_bytes:
            size += self._waiting[0].size
            batch.append(self._waiting.popleft())
        self._bytes -= size
        return batch

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer that was set for an entry that has gone comes too early, which does no harm.
        if self._waiting and self._timer is None and len(self._tasks) < self._max_in_flight:
            self._timer = loop.call_at(self._waiting[0].due, self._on_time, loop)
        elif not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_done(self, batch: list[_Waiting[T]], task: asyncio.Task[None]) -> None:
        for waiting in batch:
            waiting.result.cancel()  # without effect unless the task was cancelled, perhaps before it began
        self._tasks.discard(task)
        self._start_due_batches(task.get_loop())

    async def _deliver(self, batch: list[_Waiting[T]]) -> None:
        try:
            results = await self._send([waiting.entry for waiting in batch])
        except Exception as error:
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.result.done():
                continue  # its caller was cancelled
            if result is None:
                waiting.result.set_result(None)
            else:
                waiting.result.set_exception(result)
