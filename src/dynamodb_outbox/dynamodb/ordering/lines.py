"""Group commit for each ordering key: events that come during an append to a queue share the next one.

So this process has one append of a key under way at a time, and each appends up to ten events. Appends to different
keys go side by side.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio

from dynamodb_outbox.dynamodb.ordering.append_writer import AppendWriter
from dynamodb_outbox.dynamodb.ordering.arrivals import Arrival, Submission, take
from dynamodb_outbox.dynamodb.ordering.queue import Queue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import StorageError, UnavailableError


class Lines:
    """The events that wait for an append, by key."""

    def __init__(self, writer: AppendWriter, *, timing: Timing) -> None:
        self._writer = writer
        self._seconds = timing.publish
        self._waiting: dict[str, deque[Arrival]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, key: str, arrivals: Sequence[Arrival]) -> None:
        """Append events to the queue of their key, in this order; each has its `error` then.

        If one event cannot be appended, no later one of the call is. A cancelled call appends nothing that is not sent
        yet, and repeats nothing; events that other calls have sent together with it are not affected.
        """
        if not arrivals:
            return
        submission = Submission(arrivals, since=anyio.current_time())
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque(arrivals)
            task = asyncio.create_task(self._run(key, waiting), name="dynamodb-outbox appends")
            self._tasks.add(task)
            # A callback, because a task that is cancelled before its first step does not reach its own end.
            task.add_done_callback(partial(self._ended, key, waiting))
        else:
            waiting.extend(arrivals)
        await submission.done

    async def see(self, key: str, item: Mapping[str, Any] | None, *, within: float) -> Queue | None:
        """Return a queue, from the item that a refusal showed, or as it is now; None without a queue.

        Raises `StorageError`.
        """
        return await self._writer.see(key, item, within=within)

    async def finish(self) -> None:
        """Wait until the appends that go on without their callers are answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, key: str, waiting: deque[Arrival]) -> None:
        """Append what waits, until nothing does. It has a separate task, so that a cancelled call ends no append."""
        sent: list[Arrival] = []
        try:
            while sent := take(waiting):
                error = await self._writer.append(key, sent)
                now = anyio.current_time()
                for arrival in waiting:
                    if error is None:
                        # The line moves, however long it is.
                        arrival.submission.since = now
                    elif now >= arrival.submission.since + self._seconds:
                        arrival.submission.fail(error)
        except BaseException as error:
            # The loop ends, or an unforeseen error. No caller may wait for ever.
            unknown = self._writer.unforeseen(error) if isinstance(error, Exception) else _cancelled()
            _fail([*sent, *waiting], unknown, sent)
            if not isinstance(error, Exception):
                raise
        finally:
            del self._waiting[key]

    def _ended(self, key: str, waiting: deque[Arrival], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting.get(key) is waiting:
            del self._waiting[key]
            _fail(waiting, _cancelled(), list(waiting))


def _cancelled() -> UnavailableError:
    return UnavailableError(operation="update_item", attempts=1, reason="cancelled", maybe_applied=True)


def _fail(arrivals: Iterable[Arrival], error: StorageError, sent: Sequence[Arrival]) -> None:
    for arrival in arrivals:
        arrival.submission.fail(error, sent)
