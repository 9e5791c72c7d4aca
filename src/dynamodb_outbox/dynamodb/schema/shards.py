"""Shards: the index divided into partitions, for DynamoDB bounds what each of them can take.

A partition takes 1,000 write units a second, see
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html . An event
spends two of them in each status that it passes through, one to come and one to go: up to 500 events a second.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.items.codec import Item
    from dynamodb_outbox.dynamodb.items.values import AttributeValue

SHARD_ATTRIBUTE: Final = "statusShard"
MAX_SHARDS: Final = 256

QUIET_LOOKS: Final = 3
"""A shard counts as quiet once it was empty so many times running; one that is busy has events at most looks."""
LONGEST_QUIET: Final = 4
"""The poll intervals after which a quiet shard is looked at again, at the latest."""
EXPECTED_INTERVALS: Final = 2
"""For so many poll intervals after an event is expected, every shard is looked at: a transaction may commit late."""
GRAIN: Final = 10
"""Expectations are kept in tenths of a second, however many events are delayed."""
MAX_EXPECTED: Final = 10_000
"""So many are kept, the nearest. Without one, an event that is due waits for the next look at its quiet shard."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Where an event is in a divided index. It follows from its id, so whoever writes its status knows it."""

    count: int

    def key(self, status: str, event_id: str) -> AttributeValue:
        """Make the value of the index's partition key."""
        return {"S": shard_key(status, zlib.crc32(event_id.encode()) % self.count)}

    def placed(self, item: Item) -> Item:
        """Make of a new item one that has its place in the index."""
        if self.count == 1:
            return item
        return {**item, SHARD_ATTRIBUTE: self.key(item["status"]["S"], item["id"]["S"])}


def shard_key(status: str, shard: int) -> str:
    """Name the partition of a shard."""
    return f"{status}#{shard}"


class Rotation:
    """The order in which a worker looks at shards: each look begins with the next; quiet ones are left out at times.

    Times are seconds of the event loop, but for expectations, which are of the outbox's clock.
    """

    def __init__(self, count: int, *, interval: float, start: float = 0.0) -> None:
        """Begin at a part (0 to 1) of the shards, so that workers do not all begin with the same."""
        self._count = count
        self._interval = interval
        self._next = int(start * count)
        self._empty_polls = [0] * count
        self._look_again_at = [-math.inf] * count
        self._expected: list[int] = []
        self._known: set[int] = set()
        self._has_come = False
        self._awake_until = -math.inf

    def expect(self, time: float, *, clock: float) -> None:
        """Expect an event at a time: from then on, no shard is left out for a while."""
        if self._count == 1:
            return
        # A process that only emits never looks: what has come must not pile up.
        self._let_come(clock)
        grain = math.floor(time * GRAIN)
        if grain <= clock * GRAIN:
            self._has_come = True
        elif grain not in self._known:
            self._known.add(grain)
            insort(self._expected, grain)
            if len(self._expected) > MAX_EXPECTED:
                self._known.discard(self._expected.pop())

    def _let_come(self, clock: float) -> None:
        if come := bisect_right(self._expected, clock * GRAIN):
            self._known.difference_update(self._expected[:come])
            del self._expected[:come]
            self._has_come = True

    def order(self, *, now: float, clock: float) -> Sequence[int]:
        """Tell which shards to look at now, and begin the next look with another."""
        if self._count == 1:
            return (0,)
        self._let_come(clock)
        if self._has_come:
            self._has_come = False
            self._awake_until = now + EXPECTED_INTERVALS * self._interval
        start, self._next = self._next, (self._next + 1) % self._count
        around = ((start + step) % self._count for step in range(self._count))
        awake = now <= self._awake_until
        return [shard for shard in around if awake or self._look_again_at[shard] <= now]

    def saw(self, shard: int, *, empty: bool, now: float) -> None:
        """Note what a look at a shard has found."""
        looks = self._empty_polls[shard] = self._empty_polls[shard] + 1 if empty else 0
        intervals = min(2 ** (looks - QUIET_LOOKS + 1), LONGEST_QUIET) if looks >= QUIET_LOOKS else 0
        # A little less, for the worker's own interval varies.
        self._look_again_at[shard] = now + (intervals - 0.5) * self._interval if intervals else -math.inf
