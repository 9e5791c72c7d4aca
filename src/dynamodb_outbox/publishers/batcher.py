"""Collects entries from many callers for a few milliseconds, and sends them together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Submitted(Generic[T]):
    """An entry whose caller waits for its result."""

    entry: T
    size: int
    due: float
    result: asyncio.Future[None]

    @property
    def is_wanted(self) -> bool:
        """Whether a caller still waits: it was not cancelled, and has no result yet."""
        return not self.result.done()

    def settle(self, error: Exception | None) -> None:
        """Give the caller its result, if it waits for one: None, or the error of its entry."""
        if not self.is_wanted:
            return
        if error is None:
            self.result.set_result(None)
        else:
            self.result.set_exception(error)


Send = Callable[[list[Submitted[T]]], Awaitable[None]]
"""Sends a batch, and settles each of its entries."""


class Batcher(Generic[T]):
    """Packs entries into batches by count and bytes. Each caller gets the result of its own entry.

    A batch is sent when it is full, or when its oldest entry has waited for `linger` seconds. At most `max_in_flight`
    batches are under way at a time; meanwhile, entries wait. An entry larger than `max_bytes` is sent alone. If `send`
    raises an exception, the entries that it has not settled get the exception.
    """

    def __init__(
        self, send: Send[T], *, max_entries: int, max_bytes: int, linger: float, max_in_flight: int = 10
    ) -> None:
        self._send = send
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._linger = linger
        self._max_in_flight = max_in_flight
        # A dict for its order: any entry can be withdrawn without a search.
        self._waiting: dict[Submitted[T], None] = {}
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, entry: T, size: int) -> None:
        """Send an entry of `size` bytes, and return when it has arrived. Raises the error of this entry.

        If the caller is cancelled, its entry is not sent unless its request has begun.
        """
        loop = asyncio.get_running_loop()
        submitted = Submitted(entry, size, loop.time() + self._linger, loop.create_future())
        self._waiting[submitted] = None
        self._bytes += size
        # By count and bytes only: all callers of this turn of the loop go together, however slow the machine is.
        self._start_batches(loop, until=-math.inf)
        try:
            await submitted.result
        except asyncio.CancelledError:
            if submitted in self._waiting:
                self._remove(submitted)
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
        return is_full or self._oldest.due <= until

    @property
    def _oldest(self) -> Submitted[T]:
        return next(iter(self._waiting))

    def _take(self) -> list[Submitted[T]]:
        batch = [self._oldest]
        size = batch[0].size
        for following in islice(self._waiting, 1, self._max_entries):
            size += following.size
            if size > self._max_bytes:
                break
            batch.append(following)
        for taken in batch:
            self._remove(taken)
        return batch

    def _remove(self, submitted: Submitted[T]) -> None:
        del self._waiting[submitted]
        self._bytes -= submitted.size

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer that was set for an entry that has gone comes too early, which does no harm.
        if self._waiting and self._timer is None and len(self._tasks) < self._max_in_flight:
            self._timer = loop.call_at(self._oldest.due, self._on_time, loop)
        elif not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_done(self, batch: list[Submitted[T]], task: asyncio.Task[None]) -> None:
        for submitted in batch:
            submitted.result.cancel()  # without effect unless the task was cancelled, perhaps before it began
        self._tasks.discard(task)
        self._start_due_batches(task.get_loop())

    async def _deliver(self, batch: list[Submitted[T]]) -> None:
        try:
            await self._send(batch)
        except Exception as error:
            for submitted in batch:
                submitted.settle(error)
