"""Recovery: resetting the events whose lease ran out, which dead workers left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from dynamodb_outbox.claims import Recovered
from dynamodb_outbox.dynamodb.conditional.room import Room, fitted
from dynamodb_outbox.dynamodb.conditional.transitions import (
    RECOVER,
    RECOVER_FAILED,
    RECOVER_IN_PLACE,
    Transition,
    Write,
)
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import CONCURRENT_CALLS, ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import KEYS, StatusIndex, poll_timeout
from dynamodb_outbox.dynamodb.items.codec import MAX_ERROR_CHARS, SHORT_ERROR_CHARS, Item, error_text, millis
from dynamodb_outbox.dynamodb.schema.shards import Rotation
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.classify import concerns_all
from dynamodb_outbox.errors import ItemTooLargeError, RecoveryError, StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.outcome import LONGEST_DELAY
from dynamodb_outbox.port import LEASE_EXPIRED, OutboxOptions

EXPIRED_PAGE: Final = 100
"""How many rows of expired leases are read at once."""
PORTION: Final = CONCURRENT_CALLS
"""How many rows are recovered at a time: as many as updates are sent side by side."""
UNWRITABLE_SECONDS: Final = 30.0
"""How long recovery skips an event whose write DynamoDB refused: it would most likely refuse the next write, too."""
LONGEST_LEASE: Final = LONGEST_DELAY + 86_400.0
"""The longest that a lease can be extended to, plus a day, because clocks differ."""
_ROOMS: Final = (Room.ENOUGH, Room.FOR_SHORT_ERROR, Room.FOR_NO_ERROR)


@dataclass(slots=True)
class _Recovered:
    """The events that one recovery has reset and failed until now, and its errors."""

    reset: list[str] = field(default_factory=list[str])
    failed: list[str] = field(default_factory=list[str])
    errors: list[RecoveryError] = field(default_factory=list[RecoveryError])

    def read(self, rows: Sequence[Item], results: Sequence[WriteResult], ended: list[str]) -> None:
        """Read the results for rows. Raises an error that concerns all, such as a throttle, if nothing is recovered."""
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Applied):
                ended.append(row["id"]["S"])
            elif isinstance(result, StorageError) and not concerns_all(result):
                self.errors.append(RecoveryError(event_id=row["id"]["S"], cause=result))
        for result in results:
            if isinstance(result, StorageError) and concerns_all(result) and not self.reset and not self.failed:
                raise result


class Recovery:
    """Finds claims whose lease ran out, and resets their events."""

    def __init__(self, index: StatusIndex, writer: ConditionalWriter, options: OutboxOptions, timing: Timing) -> None:
        self._timing = timing
        self._partitions = index.partitions(EventStatus.PROCESSING)
        self._rotation = Rotation(len(self._partitions), start=options.random())
        self._index = index
        self._writer = writer
        self._options = options
        self._unwritable: dict[str, float] = {}
        self._look_far_at: float | None = None

    async def recover(self, *, max_retries: int) -> Recovered:
        """Reset every event whose lease has run out by our clock; those without a retry left become FAILED."""
        done = _Recovered()
        now = self._options.clock()
        self._unwritable = {event_id: until for event_id, until in self._unwritable.items() if until > now}
        for shard in self._rotation.order():
            # An index need not have retryCount, so only keys are read. The condition of the write checks the retries.
            async for expired in self._index.keys(
                self._partitions[shard],
                up_to=self._options.clock(),
                within=poll_timeout(self._options, self._timing),
                page=EXPIRED_PAGE,
            ):
                rows = [row for row in expired if row["id"]["S"] not in self._unwritable]
                await self._recover(rows, done, max_retries)
        await self._recover_far_leases(done, max_retries)
        until = self._options.clock() + UNWRITABLE_SECONDS
        self._unwritable |= dict.fromkeys((error.event_id for error in done.errors), until)
        return Recovered(reset=tuple(done.reset), failed=tuple(done.failed), errors=tuple(done.errors))

    async def _recover_far_leases(self, done: _Recovered, max_retries: int) -> None:
        """Once an hour, recover rows with a lease that no worker can have: such a lease would never run out."""
        now = anyio.current_time()
        if self._look_far_at is None:
            self._look_far_at = now + self._timing.far_leases
        if now < self._look_far_at:
            return
        latest = (self._options.clock() + LONGEST_LEASE) * 1000
        params = {"ScanIndexForward": False, "ProjectionExpression": KEYS, "Limit": EXPIRED_PAGE}
        for partition in self._partitions:
            async for page in self._index.pages(
                partition, within=poll_timeout(self._options, self._timing), params=params
            ):
                far = [row for row in page["Items"] if float(row["gsiSortKey"]["N"]) > latest]
                await self._recover(far, done, max_retries)
                if len(far) < len(page["Items"]):
                    break
        self._look_far_at = now + self._timing.far_leases

    async def _recover(self, rows: Sequence[Item], done: _Recovered, max_retries: int) -> None:
        """Recover the rows of a page. A row that cannot be written holds up no other row."""
        # Each portion is carried through to FAILED before the next: a throttle then wastes few billed refusals.
        for start in range(0, len(rows), PORTION):
            await self._recover_portion(rows[start : start + PORTION], done, max_retries)

    async def _recover_portion(self, rows: Sequence[Item], done: _Recovered, max_retries: int) -> None:
        results = await self._write(_forms(RECOVER), rows, max_retries)
        # Refused: either the event has changed, or no retry is left. If no retry is left, or the item has no room for
        # the count, the event becomes FAILED; an event that has changed refuses that, too.
        left = [
            row for row, result in zip(rows, results, strict=True) if isinstance(result, (Refused, ItemTooLargeError))
        ]
        known = [Refused() if isinstance(result, ItemTooLargeError) else result for result in results]
        failed = await self._write((*_forms(RECOVER_FAILED), RECOVER_IN_PLACE), left, max_retries)
        # First, because `read` raises an error of all writes while nothing is recovered.
        done.failed += [row["id"]["S"] for row, result in zip(left, failed, strict=True) if isinstance(result, Applied)]
        done.read(rows, known, done.reset)
        done.read(left, [Refused() if isinstance(result, Applied) else result for result in failed], done.failed)

    async def _write(self, forms: Sequence[Transition], rows: Sequence[Item], max_retries: int) -> list[WriteResult]:
        """Write a transition about rows, in the first of its forms that each item has room for."""
        results: list[WriteResult] = []
        for form in forms:
            too_large = [index for index, result in enumerate(results) if isinstance(result, ItemTooLargeError)]
            if not results:
                results = await self._write_form(form, rows, max_retries)
                continue
            again = await self._write_form(form, [rows[index] for index in too_large], max_retries)
            for index, result in zip(too_large, again, strict=True):
                results[index] = result
        return results

    async def _write_form(self, form: Transition, rows: Sequence[Item], max_retries: int) -> list[WriteResult]:
        values = {
            "now": millis(self._options.clock()),
            "max": {"N": str(max_retries)},
            "one": {"N": "1"},
            "zero": {"N": "0"},
            "error": error_text(
                LEASE_EXPIRED, MAX_ERROR_CHARS if "startedOn" not in form.remove else SHORT_ERROR_CHARS
            ),
        }
        writes = [Write(form, row["id"]["S"], values | {"seen": row["gsiSortKey"]}) for row in rows]
        # The next recovery repeats a throttled write. It waits longer after each error.
        return await self._writer.write(writes, within=poll_timeout(self._options, self._timing), patient=False)


def _forms(transition: Transition) -> list[Transition]:
    return [fitted(transition, room) for room in _ROOMS]
