"""DynamoDB's limit of throughput: 1,000 write units a second for each partition, of the table and of an index.

An index that cannot follow holds up the table: a write is refused where any of the partitions that it touches has no
unit left. All rows of one index key are in one partition here, which is what a hot key comes down to. See
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html and
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/gsi-throttling.html
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from reliability.simulation.responses import EXCEEDED, THROTTLED, Refusal
from reliability.simulation.table import Change

UNITS_PER_SECOND: Final = 1_000.0
TABLE_PARTITIONS: Final = 4
"""The capacity of a new on-demand table: 4,000 write units per second."""

Partition = tuple[str, str]
"""A table or index by name, and a partition of it."""


@dataclass(slots=True)
class _Bucket:
    """The remaining units of a partition; the last write may exceed them."""

    left: float
    at: float


class PartitionLimits:
    """A token bucket for each partition. It is a `Gate`; `used` counts units, `refused` writes, by partition."""

    def __init__(
        self,
        *,
        units_per_second: float = UNITS_PER_SECOND,
        table_partitions: int = TABLE_PARTITIONS,
        burst_seconds: float = 1.0,
        on_demand: bool = True,
    ) -> None:
        self._rate = units_per_second
        self._table_partitions = table_partitions
        self._most = units_per_second * burst_seconds
        self._code = THROTTLED if on_demand else EXCEEDED
        self._buckets: dict[Partition, _Bucket] = {}
        self.used: Counter[Partition] = Counter()
        self.refused: Counter[Partition] = Counter()

    def admit(self, change: Change, *, table_name: str, now: float, factor: int = 1) -> Refusal | None:
        """Take the units of a write from all of its partitions, or refuse it."""
        costs = self._costs(change, table_name, factor)
        for partition in costs:
            if self._left(partition, now) <= 0:
                self.refused[partition] += 1
                return self._refusal(partition, is_index=partition[0] != table_name)
        for partition, units in costs.items():
            self._buckets[partition].left -= units
            self.used[partition] += units
        return None

    def _costs(self, change: Change, table_name: str, factor: int) -> Mapping[Partition, int]:
        table_partition = zlib.crc32(change.key.encode()) % self._table_partitions
        costs: Counter[Partition] = Counter({(table_name, str(table_partition)): change.units * factor})
        for write in change.indexes:
            for key, units in write.units.items():
                costs[write.index, key] += units
        return costs

    def _left(self, partition: Partition, now: float) -> float:
        bucket = self._buckets.setdefault(partition, _Bucket(self._most, now))
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket.left

    def _refusal(self, partition: Partition, *, is_index: bool) -> Refusal:
        where = f"index: {partition[0]}" if is_index else "table"
        return Refusal(self._code, f"Throughput exceeds the limit of a partition of the {where}")
