"""The rows of several partitions of the index in one order.

Example: with 4 shards, the 50 events that have been due the longest are the first rows of four partitions, merged. A
cursor names the last row and its partition. Rows of the same sort key are in the order of their partitions, so the
cursor also says where each of the other partitions goes on: after that sort key, or with it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Final

from dynamodb_outbox.cursors import Cursor
from dynamodb_outbox.dynamodb.delivering.index import Part, Partition, StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.dynamodb.transport.side_by_side import side_by_side
from dynamodb_outbox.event_states import AFTER_NOW, UP_TO_NOW
from dynamodb_outbox.stored_events import EventState

MARGIN: Final = 1.5
"""With shards, how many rows more than its share are read of a shard, because some have more of them than others."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the index: the keys, and the number of the partition."""

    keys: Item
    partition: int

    @property
    def id(self) -> str:
        """The id of the event."""
        event_id: str = self.keys["id"]["S"]
        return event_id

    @property
    def sort_key(self) -> str:
        """The sort key, as DynamoDB's text of a number."""
        sort_key: str = self.keys["gsiSortKey"]["N"]
        return sort_key


def part_of(state: EventState, now: int) -> Part:
    """Return the rows of a status that are in a state at `now` (epoch milliseconds)."""
    sign = "<=" if state in UP_TO_NOW else ">" if state in AFTER_NOW else ""
    return Part(sign=sign, bound=str(now) if sign else "", latest_first=state is EventState.FAILED)


@dataclass(slots=True)
class _Stream:
    """What is read of one partition."""

    number: int
    partition: Partition
    part: Part
    rows: deque[Row] = field(default_factory=deque[Row])
    is_ended: bool = False


class MergedRows:
    """Reads rows on from a cursor: the earliest sort key first, or the latest first for FAILED events."""

    def __init__(
        self, index: StatusIndex, partitions: Sequence[Partition], cursor: Cursor, *, page: int, within: float
    ) -> None:
        self._index = index
        self._within = within
        self._limit = page if len(partitions) == 1 else int(page * MARGIN / len(partitions)) + 2
        self._latest_first = cursor.state is EventState.FAILED
        self._last = Decimal(cursor.now) if cursor.state in UP_TO_NOW else None
        self._streams = [
            _Stream(number, partition, _part_after(cursor, number)) for number, partition in enumerate(partitions)
        ]
        self._heads: list[tuple[Decimal, int]] = []
        self._dry = list(self._streams)

    async def take(self, count: int) -> list[Row]:
        """Take the next rows; fewer only at the end."""
        taken: list[Row] = []
        while len(taken) < count:
            if self._dry:
                await side_by_side([partial(self._read_on, stream) for stream in self._dry])
                for stream in self._dry:
                    self._show_head(stream)
                self._dry = [stream for stream in self._dry if not stream.rows and not stream.is_ended]
                continue
            if not self._heads:
                break
            _, number = heapq.heappop(self._heads)
            stream = self._streams[number]
            taken.append(stream.rows.popleft())
            self._show_head(stream)
            if not stream.rows and not stream.is_ended:
                self._dry.append(stream)
        return taken

    @property
    def is_done(self) -> bool:
        """Whether no rows are left."""
        return not self._heads and not self._dry

    async def _read_on(self, stream: _Stream) -> None:
        found, more = await self._index.page(
            stream.partition, stream.part, limit=self._limit, within=self._within, units=ReadUnits()
        )
        rows = [Row(keys, stream.number) for keys in found]
        # The first part of a listing ends at `now`; a part that goes on from a cursor has only a lower bound.
        kept = [row for row in rows if self._last is None or Decimal(row.sort_key) <= self._last]
        stream.rows.extend(kept)
        stream.is_ended = not more or len(kept) < len(rows) or not rows
        if rows:
            stream.part = replace(stream.part, after=rows[-1].keys)

    def _show_head(self, stream: _Stream) -> None:
        if stream.rows:
            key = Decimal(stream.rows[0].sort_key)
            heapq.heappush(self._heads, (-key if self._latest_first else key, stream.number))


def _part_after(cursor: Cursor, number: int) -> Part:
    """Return the rows of a partition that come after the row of the cursor."""
    whole = part_of(cursor.state, cursor.now)
    if not cursor.sort_key:
        return whole
    if number == cursor.partition:
        return replace(whole, after={"id": {"S": cursor.id}, "gsiSortKey": {"N": cursor.sort_key}})
    sign = "<" if whole.latest_first else ">"
    return replace(whole, sign=sign if number < cursor.partition else f"{sign}=", bound=cursor.sort_key)
