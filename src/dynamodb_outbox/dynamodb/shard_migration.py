"""Moving a table in use to shards: each event gets its shard in the new index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from dynamodb_outbox.dynamodb.conditional.transitions import MOVE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus

MIGRATION_PAGE: Final = 250
"""How many events are moved between two calls of `on_progress`."""


class ShardMigration:
    """Finds all events through the former index, and moves each event that is not in its shard."""

    def __init__(self, index: StatusIndex, writer: ConditionalWriter, shards: Shards, timing: Timing) -> None:
        self._timing = timing
        self._index = index
        self._writer = writer
        self._shards = shards

    async def run(self, *, on_progress: Callable[[int], object] | None) -> int:
        """Move all events; see `DynamoDBOutbox.move_to_shards`."""
        moved = 0
        for status in (EventStatus.PROCESSING, EventStatus.PENDING, EventStatus.FAILED):
            for partition in self._index.complete(status):
                async for page in self._index.keys(partition, within=self._timing.operator, page=MIGRATION_PAGE):
                    moved += await self._move(page, status)
                    if on_progress is not None:
                        on_progress(moved)
        return moved

    async def _move(self, rows: Sequence[Item], status: EventStatus) -> int:
        results = await self._writer.write([self._write(row, status) for row in rows], within=self._timing.operator)
        for result in results:
            if isinstance(result, StorageError):
                raise result
        return sum(isinstance(result, Applied) for result in results)

    def _write(self, row: Item, status: EventStatus) -> Write:
        event_id: str = row["id"]["S"]
        values: dict[str, AttributeValue] = {"seen": row["gsiSortKey"], "was": {"S": status.value}}
        return Write(MOVE, event_id, values | {"shard": self._shards.key(status.value, event_id)})
