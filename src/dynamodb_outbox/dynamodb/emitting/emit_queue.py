"""Group commit: single emits that come during a write share the next request.

For example, 100 concurrent emits become one PutItem and four BatchWriteItems.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from dynamodb_outbox.dynamodb.emitting.publish_result import (
    CONCURRENT_REQUESTS,
    MAX_BATCH_ITEMS,
    PublishResult,
    Put,
    chunks_of,
)
from dynamodb_outbox.errors import UnavailableError

_EARLY: Final = 0.001
"""A timer may fire a millisecond too early."""

Write = Callable[[list[Put], PublishResult], Coroutine[Any, Any, None]]


class EmitQueue:
    """Lets single emits wait for a write under way, and then share a request.

    The first emit goes at once. Emits that come before its response go together: when the response comes, when they
    fill a request of 25, or when the oldest of them has waited for `longest_wait` seconds. So no emit waits longer for
    a write that is slow or is repeated.
    """

    def __init__(self, write: Write, *, new_result: Callable[[], PublishResult], longest_wait: float) -> None:
        self._write = write
        self._new_result = new_result
        self._longest_wait = longest_wait
        self._waiting: list[Put] = []
        self._under_way: dict[object, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether a write is under way that an emit may wait for."""
        return bool(self._under_way) and self._fresh(asyncio.get_running_loop().time()) > 0

    def begin(self) -> object:
        """Let later emits wait for a write, until `end` is called."""
        write = object()
        self._under_way[write] = asyncio.get_running_loop().time()
        return write

    def end(self, write: object) -> None:
        """Note that a write is answered, and send the emits that wait for it."""
        del self._under_way[write]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send_what_may_go()

    async def finish(self) -> None:
        """Wait until the shared requests that go on without their callers are answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def put(self, put: Put) -> None:
        """Write an event with others, and wait for its result. A cancelled emit that is not sent yet is dropped."""
        loop = asyncio.get_running_loop()
        put.written, put.queued_at = loop.create_future(), loop.time()
        self._waiting.append(put)
        self._send_what_may_go()
        try:
            await put.written
        except asyncio.CancelledError:
            put.is_wanted = False
            if put.alone is not None:
                put.alone.cancel()
            elif not put.is_sending:
                self._waiting.remove(put)
                self._new_result().abandon([put])
            raise

    def start(self, chunk: Sequence[Put], result: PublishResult) -> asyncio.Task[None]:
        """Write a chunk in a task of the queue, so that one cancelled caller does not end the emits of the others."""
        task = asyncio.create_task(self._write(list(chunk), result), name="dynamodb-outbox emits")
        for put in chunk:
            put.is_sending = True
            if put.emit_claim is not None:
                # Already now, because the task begins in a later step of the event loop. A caller that is cancelled
                # until then would end its own emit, and not the request.
                put.emit_claim.sending()
            # A single write has a condition, so it cannot reset an event. It may end with its caller.
            put.alone = task if len(chunk) == 1 else None
        self._tasks.add(task)
        # A callback, because a task that is cancelled before its first step does not reach its own end.
        task.add_done_callback(partial(self._written, chunk, result))
        return task

    async def written(self, task: asyncio.Task[None], chunk: Sequence[Put]) -> None:
        """Wait for the task of a chunk. It continues without its caller, because a repeat waits for its response."""
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if chunk[0].alone is not None:
                task.cancel()
            raise

    def _written(self, chunk: Sequence[Put], result: PublishResult, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        left = [put for put in chunk if not put.is_done]
        if left and task.cancelled():
            # The loop ends. Events without a response may be stored.
            unknown = UnavailableError(operation="BatchWriteItem", attempts=1, reason="cancelled", maybe_applied=True)
            result.fail(left, unknown)
        elif not task.cancelled():
            task.exception()
            result.abandon(left)

    def _send_what_may_go(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._may_go(loop.time()):
            chunk = chunks_of(self._waiting[:MAX_BATCH_ITEMS])[0]
            del self._waiting[: len(chunk)]
            task = self.start(chunk, self._new_result())
            self._under_way[task] = loop.time()
            task.add_done_callback(self.end)
        if self._waiting and self._timer is None:
            self._timer = loop.call_at(self._waiting[0].queued_at + self._longest_wait, self._time_is_up)

    def _may_go(self, now: float) -> bool:
        fresh = self._fresh(now)
        is_full = len(self._waiting) >= MAX_BATCH_ITEMS
        waited = now - self._waiting[0].queued_at
        return not fresh or (is_full and fresh < CONCURRENT_REQUESTS) or waited >= self._longest_wait - _EARLY

    def _fresh(self, now: float) -> int:
        """Count the writes whose response is expected soon, so that an emit may wait for them."""
        return sum(now - since < self._longest_wait for since in self._under_way.values())

    def _time_is_up(self) -> None:
        self._timer = None
        self._send_what_may_go()
