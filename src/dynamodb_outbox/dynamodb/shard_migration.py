"""Moving a table in use to shards: each event and each window gets its shard in the new index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from dynamodb_outbox.dynamodb.conditional.transitions import MOVE, MOVE_WINDOW, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.windows.item import WINDOW, window_partition
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus

MIGRATION_PAGE: Final = 250
"""How many events are moved between two calls of `on_progress`."""

_LISTED: Final = (EventStatus.PROCESSING, EventStatus.PENDING, EventStatus.FAILED, EventStatus.HELD)
"""The statuses whose events are in the index."""


class ShardMigration:
    """Finds all events through the former index, and moves each event that is not in its shard."""

    def __init__(self, index: StatusIndex, writer: ConditionalWriter, shards: Shards, timing: Timing) -> None:
        self._timing = timing
        self._index = index
        self._writer = writer
        self._shards = shards

    async def run(self, *, on_progress: Callable[[int], object] | None) -> int:
        """Move all events, and the windows of workers; see `DynamoDBOutbox.move_to_shards`."""
        for partition in self._index.windows():
            async for page in self._index.keys(partition, within=self._timing.operator, page=MIGRATION_PAGE):
                await self._write([self._move_of_window(row) for row in page])
        moved = 0
        for status in _LISTED:
            for partition in self._index.complete(status):
                async for page in self._index.keys(partition, within=self._timing.operator, page=MIGRATION_PAGE):
                    moved += await self._write([self._move_of_event(row, status) for row in page])
                    if on_progress is not None:
                        on_progress(moved)
        return moved

    async def _write(self, writes: Sequence[Write]) -> int:
        """Make writes; return how many were applied. Raises the first error."""
        results = await self._writer.write(writes, within=self._timing.operator)
        for result in results:
            if isinstance(result, StorageError):
                raise result
        return sum(isinstance(result, Applied) for result in results)

    def _move_of_event(self, row: Item, status: EventStatus) -> Write:
        event_id: str = row["id"]["S"]
        values: dict[str, AttributeValue] = {"seen": row["gsiSortKey"], "was": {"S": status.value}}
        return Write(MOVE, event_id, values | {"shard": self._shards.key(status.value, event_id)})

    def _move_of_window(self, row: Item) -> Write:
        values: dict[str, AttributeValue] = {"was": {"S": WINDOW}, "shard": {"S": window_partition(self._shards)}}
        return Write(MOVE_WINDOW, row["id"]["S"], values)
