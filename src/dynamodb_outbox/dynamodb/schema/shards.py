"""Shards: partitions of the index, because DynamoDB limits the writes to each partition.

A partition takes 1,000 write units a second, see
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html . An event
needs two units in each status, one to enter it and one to leave it. So a shard takes up to 500 events a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.items.codec import Item
    from dynamodb_outbox.dynamodb.items.values import AttributeValue

SHARD_ATTRIBUTE: Final = "statusShard"
MAX_SHARDS: Final = 256


@dataclass(frozen=True, slots=True)
class Shards:
    """Computes the shard of an event. It depends on the id only, so each writer of a status knows the shard."""

    count: int

    def key(self, status: str, event_id: str) -> AttributeValue:
        """Return the value of the index's partition key."""
        return {"S": shard_key(status, zlib.crc32(event_id.encode()) % self.count)}

    def placed(self, item: Item) -> Item:
        """Return a new item with its shard, or unchanged if the index is not divided."""
        if self.count == 1:
            return item
        return {**item, SHARD_ATTRIBUTE: self.key(item["status"]["S"], item["id"]["S"])}


def shard_key(status: str, shard: int) -> str:
    """Return the partition key of a shard, such as `PENDING#3`."""
    return f"{status}#{shard}"


class Rotation:
    """The order in which a worker polls the shards: each poll starts one shard later than the poll before.

    With 4 shards: 0 1 2 3, then 1 2 3 0, then 2 3 0 1. So a worker that finds enough events in the first shard still
    serves all shards in turn.
    """

    def __init__(self, count: int, *, start: float = 0.0) -> None:
        """Start at a fraction (0 to 1) of the shards, so that workers start with different shards."""
        self._count = count
        self._next = int(start * count)

    def order(self) -> Sequence[int]:
        """List the shards in the order of this poll, and start the next poll one shard later."""
        start, self._next = self._next, (self._next + 1) % self._count
        return (*range(start, self._count), *range(start))
