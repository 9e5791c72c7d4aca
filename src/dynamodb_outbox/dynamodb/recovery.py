"""Recovery: resetting the events whose lease ran out, which dead workers left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.codec import Item, error_text, millis
from dynamodb_outbox.dynamodb.index import StatusIndex, look_seconds
from dynamodb_outbox.dynamodb.shards import Rotation
from dynamodb_outbox.dynamodb.transitions import RECOVER, RECOVER_FAILED, Transition, Write
from dynamodb_outbox.dynamodb.writes import Applied, ConditionalWriter, Refused, WriteResult
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.outbox import LEASE_EXPIRED, OutboxOptions, Recovered

PAGE: Final = 100


class Recovery:
    """Finds claims whose lease ran out, and resets their events."""

    def __init__(self, index: StatusIndex, writer: ConditionalWriter, options: OutboxOptions) -> None:
        self._partitions = index.partitions(EventStatus.PROCESSING)
        self._rotation = Rotation(len(self._partitions), interval=options.poll_interval, start=options.random())
        self._index = index
        self._writer = writer
        self._options = options

    async def recover(self, *, max_retries: int) -> Recovered:
        """Reset every event whose lease has run out by our clock; those without a retry left become FAILED."""
        reset: list[str] = []
        failed: list[str] = []
        for shard in self._rotation.order(now=anyio.current_time(), clock=self._options.clock()):
            empty = True
            # Of the keys only: an index need not have the retries, so the condition of the write looks at them.
            async for expired in self._index.keys(
                self._partitions[shard], up_to=self._options.clock(), within=look_seconds(self._options), page=PAGE
            ):
                empty = empty and not expired
                results = await self._write(RECOVER, expired, max_retries)
                refused = [row for row, result in zip(expired, results, strict=True) if isinstance(result, Refused)]
                reset += _applied_to(expired, results)
                results += await self._write(RECOVER_FAILED, refused, max_retries)
                failed += _applied_to(refused, results[len(expired) :])
                errors = [result for result in results if isinstance(result, StorageError)]
                if errors and not reset and not failed:
                    raise errors[0]
            self._rotation.saw(shard, empty=empty, now=anyio.current_time())
        return Recovered(reset=tuple(reset), failed=tuple(failed))

    async def _write(self, transition: Transition, rows: Sequence[Item], max_retries: int) -> list[WriteResult]:
        values = {
            "now": millis(self._options.clock()),
            "max": {"N": str(max_retries)},
            "one": {"N": "1"},
            "zero": {"N": "0"},
            "error": error_text(LEASE_EXPIRED),
        }
        writes = [Write(transition, row["id"]["S"], values | {"seen": row["gsiSortKey"]}) for row in rows]
        return await self._writer.write(writes, within=look_seconds(self._options))


def _applied_to(rows: Sequence[Item], results: Sequence[WriteResult]) -> list[str]:
    return [row["id"]["S"] for row, result in zip(rows, results, strict=True) if isinstance(result, Applied)]
