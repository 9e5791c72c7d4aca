"""A sample of the outbox: how many events are in each state, up to a limit, and how old the oldest ones are.

One query of each state gives its first rows, and so both the count and the oldest. With 6 states, rows of 1 KB and a
limit of 1,000, a sample costs 6 x 125 read units if every state has that many events, and 6 x 0.5 if none has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from dynamodb_outbox.dynamodb.delivering.index import Part, Partition, StatusIndex
from dynamodb_outbox.dynamodb.items.stored import seconds_of, time_of
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.reading.merged_rows import MARGIN, part_of
from dynamodb_outbox.dynamodb.reading.window_events import LeasedWindow, WindowEvents
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.dynamodb.transport.side_by_side import side_by_side
from dynamodb_outbox.event_states import LISTED, STATUS_OF
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.stored_events import Count, EventState, Sample

NUMBERS_PART: Final = 1 / 10
"""How many numbers of windows are read, as a part of the limit: each costs half a read unit, five times a small row."""
ROWS_OF_PAGE: Final = 1_000
"""A state of one partition is read in one query for so many rows of the limit, of at most 1 MB."""


@dataclass(slots=True)
class _Stream:
    """What is counted of one partition."""

    partition: Partition
    part: Part
    total: int = 0
    queues: int = 0
    first: float | None = None
    is_ended: bool = False


@dataclass(slots=True)
class _Counted:
    """What is counted of one state. Without `is_whole`, there may be events that were not counted."""

    streams: list[_Stream]
    in_windows: int = 0
    is_whole: bool = True
    times: list[float] = field(default_factory=list[float])

    @property
    def total(self) -> int:
        return self.in_windows + sum(stream.total for stream in self.streams)

    def count(self, limit: int) -> Count:
        """Return the number: exact if everything was counted, and no more than the limit."""
        is_ended = self.is_whole and all(stream.is_ended for stream in self.streams)
        return Count(at_least=min(self.total, limit), is_exact=is_ended and self.total <= limit)

    def queues(self, limit: int) -> Count:
        """Return how many of the rows are queues of ordering keys: the ids tell, and nothing more is read."""
        queues = sum(stream.queues for stream in self.streams)
        return Count(at_least=min(queues, limit), is_exact=self.count(limit).is_exact)

    def firsts(self) -> list[float]:
        """List the time of the first event of each partition and window."""
        return [*self.times, *(stream.first for stream in self.streams if stream.first is not None)]


class Sampling:
    """Takes samples."""

    def __init__(self, index: StatusIndex, windows: WindowEvents, options: OutboxOptions, *, within: float) -> None:
        self._index = index
        self._windows = windows
        self._options = options
        self._within = within

    async def take(self, *, count_limit: int) -> Sample:
        """Take a sample. Each count stops at the limit. Raises `StorageError`."""
        units, now = ReadUnits(), self._options.clock()
        # Before the rows, so that an event that is moved into the index meanwhile is not missed.
        windows = await self._windows.windows(units)
        counted = {state: self._begin(state, now) for state in LISTED}
        await self._count_windows(windows, counted, now=now, limit=count_limit, units=units)
        await self._count_rows(list(counted.values()), limit=count_limit, units=units)
        counts = {state: found.count(count_limit) for state, found in counted.items()}
        due, expired, failed = (
            counted[state].firsts() for state in (EventState.DUE, EventState.EXPIRED, EventState.FAILED)
        )
        return Sample(
            at=_time(now),
            due=counts[EventState.DUE],
            scheduled=counts[EventState.SCHEDULED],
            processing=counts[EventState.PROCESSING],
            expired=counts[EventState.EXPIRED],
            failed=counts[EventState.FAILED],
            held=counts[EventState.HELD],
            oldest_due=time_of(min(due, default=None)),
            oldest_expired=time_of(min(expired, default=None)),
            latest_failed=time_of(max(failed, default=None)),
            read_units=units.total,
            blocked_keys=counted[EventState.FAILED].queues(count_limit),
        )

    def _begin(self, state: EventState, now: float) -> _Counted:
        part = part_of(state, round(now * 1000))
        return _Counted([_Stream(partition, part) for partition in self._index.complete(STATUS_OF[state])])

    async def _count_rows(self, counted: Sequence[_Counted], *, limit: int, units: ReadUnits) -> None:
        """Count rows, in rounds of one page of each partition: one round more for each thousand of the limit."""
        for _ in range(1 + limit // ROWS_OF_PAGE):
            reads = [
                partial(self._read_on, stream, limit=self._share(found, limit), units=units)
                for found in counted
                if found.total <= limit
                for stream in found.streams
                if not stream.is_ended
            ]
            if not reads:
                return
            await side_by_side(reads)

    @staticmethod
    def _share(found: _Counted, limit: int) -> int:
        """Return how many rows of a partition to read. One more than the limit shows that there are more."""
        left, streams = limit + 1 - found.total, len(found.streams)
        return left if streams == 1 else int(left * MARGIN / streams) + 2

    async def _read_on(self, stream: _Stream, *, limit: int, units: ReadUnits) -> None:
        rows, more = await self._index.page(
            stream.partition, stream.part, limit=limit, within=self._within, units=units
        )
        stream.total += len(rows)
        stream.queues += sum(is_queue_id(row["id"]["S"]) for row in rows)
        stream.is_ended = not more or not rows
        if rows:
            if stream.first is None:
                stream.first = seconds_of(rows[0]["gsiSortKey"]["N"])
            stream.part = replace(stream.part, after=rows[-1])

    async def _count_windows(
        self,
        windows: Sequence[LeasedWindow],
        counted: dict[EventState, _Counted],
        *,
        now: float,
        limit: int,
        units: ReadUnits,
    ) -> None:
        """Count events of windows: first in windows whose lease ran out, then in the others."""
        numbers = max(int(limit * NUMBERS_PART), 1)
        for leased in sorted(windows, key=lambda leased: leased.ends):
            found = counted[EventState.EXPIRED if leased.ends <= now else EventState.PROCESSING]
            if leased.ends <= now:
                found.times.append(leased.ends)
            found.in_windows += await self._windows.count(leased.window, numbers=numbers, units=units)
            found.is_whole = found.is_whole and leased.numbers <= numbers
            numbers = max(numbers - leased.numbers, 0)


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
