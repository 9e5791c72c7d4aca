"""Recovery: resetting the events whose lease ran out, which dead workers left behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from dynamodb_outbox.claims import Recovered
from dynamodb_outbox.dynamodb.conditional.recover import LISTED, RecoverForms, RecoverWriter
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import Partition, StatusIndex, poll_timeout
from dynamodb_outbox.dynamodb.delivering.recovered import RecoveredSoFar
from dynamodb_outbox.dynamodb.delivering.window_recovery import WindowRecovery
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id, read_queue
from dynamodb_outbox.dynamodb.ordering.transitions import RECOVER_QUEUE
from dynamodb_outbox.dynamodb.schema.shards import Rotation
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.outcome import LONGEST_DELAY
from dynamodb_outbox.port import OutboxOptions

EXPIRED_PAGE: Final = 100
"""How many rows of expired leases are read at once."""
UNWRITABLE_SECONDS: Final = 30.0
"""How long recovery skips an item whose write DynamoDB refused: it would most likely refuse the next write, too."""
WINDOWS_PART: Final = 1 / 3
"""The part of a lease after which recovery queries the windows again, if it found none, because each query costs."""
LONGEST_LEASE: Final = LONGEST_DELAY + 86_400.0
"""The longest that a lease can be extended to, plus a day, because clocks differ."""
_QUEUES: Final = RecoverForms(reset=(RECOVER_QUEUE,), failed=())
"""For the queue of an ordering key. Whether its event has a retry left is decided by the worker that claims it."""


class _Recover(Protocol):
    async def __call__(self, rows: Sequence[Item], done: RecoveredSoFar, max_retries: int) -> None: ...


class _HeldEvents(Protocol):
    async def sweep(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class _Rows:
    """A partition with leases, and what recovers its rows."""

    partition: Partition
    recover: _Recover


class Recovery:
    """Finds claims and windows whose lease ran out, and resets their events."""

    def __init__(
        self,
        index: StatusIndex,
        writer: ConditionalWriter,
        options: OutboxOptions,
        timing: Timing,
        *,
        windows: WindowRecovery,
        held: _HeldEvents,
    ) -> None:
        self._timing = timing
        self._partitions = index.partitions(EventStatus.PROCESSING)
        self._rotation = Rotation(len(self._partitions), start=options.random())
        self._index = index
        self._writer = RecoverWriter(writer, options)
        self._options = options
        self._windows = windows
        self._held = held
        self._unwritable: dict[str, float] = {}
        self._look_far_at: float | None = None
        self._no_windows_at = -math.inf

    async def recover(self, *, max_retries: int) -> Recovered:
        """Reset every event whose lease has run out by our clock; those without a retry left become FAILED."""
        done = RecoveredSoFar()
        self._windows.fence.max_retries = max_retries
        now = self._options.clock()
        self._unwritable = {item_id: until for item_id, until in self._unwritable.items() if until > now}
        events = [_Rows(self._partitions[shard], self._recover_events) for shard in self._rotation.order()]
        windows = [_Rows(partition, self._windows.recover) for partition in self._index.windows()]
        try:
            for rows in events:
                await self._recover_expired(rows, done, max_retries)
            if not self._no_windows_at <= now < self._no_windows_at + self._options.processing_timeout * WINDOWS_PART:
                found = [await self._recover_expired(rows, done, max_retries) for rows in windows]
                if not any(found):
                    self._no_windows_at = now
            if self._is_time_for_far_leases():
                latest = self._options.clock() + LONGEST_LEASE
                for rows in (*events, *windows):
                    async for page in self._index.keys_after(
                        rows.partition, time=latest, within=self._within, page=EXPIRED_PAGE
                    ):
                        await rows.recover(page, done, max_retries)
                self._look_far_at = anyio.current_time() + self._timing.far_leases
            done.resumed += await self._held.sweep()
        except StorageError as error:
            done.fail(error)
        until = self._options.clock() + UNWRITABLE_SECONDS
        self._unwritable |= dict.fromkeys((*(error.event_id for error in done.errors), *done.skipped), until)
        return done.result()

    async def _recover_expired(self, rows: _Rows, done: RecoveredSoFar, max_retries: int) -> bool:
        """Recover the rows of a partition whose lease has run out; tell whether there were any."""
        found = False
        # An index need not have retryCount, so only keys are read. The condition of a write checks the retries.
        async for page in self._index.keys(
            rows.partition, up_to=self._options.clock(), within=self._within, page=EXPIRED_PAGE
        ):
            found = found or bool(page)
            await rows.recover([row for row in page if row["id"]["S"] not in self._unwritable], done, max_retries)
        return found

    @property
    def _within(self) -> float:
        return poll_timeout(self._options, self._timing)

    def _is_time_for_far_leases(self) -> bool:
        """Tell once an hour to recover leases that no worker can have: such a lease would never run out."""
        now = anyio.current_time()
        if self._look_far_at is None:
            self._look_far_at = now + self._timing.far_leases
        return now >= self._look_far_at

    async def _recover_events(self, rows: Sequence[Item], done: RecoveredSoFar, max_retries: int) -> None:
        """Recover the rows of a page. A row that cannot be written holds up no other row."""
        expired = {row["id"]["S"]: {"seen": row["gsiSortKey"]} for row in rows}
        queues = {item_id: expired.pop(item_id) for item_id in list(expired) if is_queue_id(item_id)}
        # The next recovery repeats a throttled write. It waits longer after each error.
        async for results in self._writer.recover(
            LISTED, expired, max_retries=max_retries, within=self._within, patient=False
        ):
            done.add(results)
        async for results in self._writer.recover(
            _QUEUES, queues, max_retries=max_retries, within=self._within, patient=False
        ):
            done.add(results.renamed(_front_of))


def _front_of(queue_id: str, result: WriteResult) -> str:
    """Return the id of the event at the front of a queue that was recovered."""
    item = result.item if isinstance(result, Applied) else None
    queue = None if item is None else read_queue(item)
    return queue_id if queue is None else queue.front
