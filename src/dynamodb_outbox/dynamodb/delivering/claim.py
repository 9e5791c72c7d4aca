"""Taking events: the due query, and conditional claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.conditional.transitions import CLAIM, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex, poll_timeout
from dynamodb_outbox.dynamodb.delivering.membership import PATIENCE, WorkerMembership
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim, millis
from dynamodb_outbox.dynamodb.schema.shards import Rotation
from dynamodb_outbox.dynamodb.transport.classify import ItemTooLargeError
from dynamodb_outbox.errors import StorageError, StoredEventError, ThrottledError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import ClaimRefused, Observers
from dynamodb_outbox.port import Claim, Numbers, OutboxOptions

INDEX_LAG_SECONDS: Final = 5.0
"""How long a claimed event is expected to show in the index as it was. A guess only costs or saves a write."""
MAX_SPREAD: Final = 8
"""How many times the events that it wants a worker reads at most, to find some that others do not try."""
MAX_PAGE: Final = 250
"""Rows that are read at once, at most; of keys only, they are some 25 KB."""
AHEAD_SECONDS: Final = 0.5
"""How long rows are good for that were read ahead: later, somebody else may have claimed them."""
MAX_PAGES: Final = 4
"""Pages that a worker among others reads in search of its own events."""
LEAST_SECONDS: Final = 0.5
"""What one call of a look is given in any case."""
OTHERS_INTERVALS: Final = PATIENCE + 2
"""Poll intervals in which another worker has surely looked, and taken what it thought this one would take."""
MAX_LEFT: Final = 2_000
"""Of how many events is remembered that they have no handler here."""
MAX_ROUNDS: Final = 5
"""How often one look begins anew because a claim was refused: other workers are at the same events."""


@dataclass(slots=True)
class _PollRound:
    """What one look for due events has found."""

    limit: int
    numbers: Numbers
    seconds: float
    """How long one call may take, and how long the look goes on once it has a claim: the leases run meanwhile."""
    ends_at: float = math.inf
    claims: list[Claim] = field(default_factory=list[Claim])
    unreadable: list[tuple[str, StoredEventError]] = field(default_factory=list[tuple[str, StoredEventError]])
    refused: int = 0
    throttled: list[Item] = field(default_factory=list[Item])
    without_room: list[Item] = field(default_factory=list[Item])
    """Rows whose items a claim would make too large."""

    @property
    def wanted(self) -> int:
        return self.limit - len(self.claims)

    @property
    def is_full(self) -> bool:
        return self.wanted <= 0

    @property
    def is_over(self) -> bool:
        return self.is_full or anyio.current_time() >= self.ends_at

    @property
    def seconds_left(self) -> float:
        """How long the next call may take."""
        return max(min(self.seconds, self.ends_at - anyio.current_time()), LEAST_SECONDS)

    def read(self, results: Sequence[WriteResult]) -> None:
        """Read the results of claims. Raises the first error among them, after all that succeeded."""
        self.refused += sum(isinstance(result, Refused) for result in results)
        for result in results:
            if isinstance(result, Applied) and result.item is not None:
                try:
                    self.claims.append(decode_claim(result.item, numbers=self.numbers))
                except StoredEventError as error:
                    self.unreadable.append((result.item["claimToken"]["S"], error))
        if self.claims and math.isinf(self.ends_at):
            self.ends_at = anyio.current_time() + self.seconds
        for result in results:
            if isinstance(result, StorageError):
                raise result


class Claimer:
    """Finds due events in the index and claims them."""

    def __init__(
        self,
        index: StatusIndex,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        membership: WorkerMembership,
        observers: Observers,
    ) -> None:
        self._partitions = index.partitions(EventStatus.PENDING)
        self._rotation = Rotation(len(self._partitions), start=options.random())
        self._index = index
        self._membership = membership
        self._writer = writer
        self._options = options
        self._observers = observers
        self._just_tried: dict[tuple[str, str], float] = {}
        self._left_to_others: dict[str, float] = {}
        self._spread = 1
        self._was_full = False
        self._ahead: list[Item] = []
        self._ahead_until = -math.inf

    def leave_to_others(self, event_id: str, *, delay: float) -> None:
        """Let others be the first to take an event that has no handler here, once it is due in `delay` seconds."""
        while len(self._left_to_others) >= MAX_LEFT:
            del self._left_to_others[next(iter(self._left_to_others))]
        self._left_to_others.pop(event_id, None)
        # Nobody took it in time: delays double, and so does the time that is left to others.
        others = max(delay, OTHERS_INTERVALS * self._options.poll_interval)
        self._left_to_others[event_id] = anyio.current_time() + delay + others

    def forget_handlers(self) -> None:
        """Forget which events have no handler here: the worker may have handlers for them now."""
        self._left_to_others.clear()

    async def claim(self, limit: int) -> tuple[list[Claim], list[tuple[str, StoredEventError]], list[Item]]:
        """Claim up to `limit` events, the longest due first.

        Also returns the claimed items that cannot be read as events, as token and reason, and the rows whose items
        have no room for a claim. Raises `StorageError` only while nothing was claimed.
        """
        look = _PollRound(limit=limit, numbers=self._options.numbers, seconds=poll_timeout(self._options))
        refused = False
        try:
            for _ in range(MAX_ROUNDS):
                await self._membership.heartbeat(refused=refused)
                refused = await self._look_once(look)
                if look.is_over or not refused:
                    break
        except StorageError:
            if not look.claims and not look.unreadable and not look.without_room:
                raise
        # Refused writes are billed. Where other workers are at the same events, a part of a wider page, taken at
        # random, meets them less often; a worker that is alone reads no more than it takes.
        self._spread = min(2 * self._spread, MAX_SPREAD) if look.refused else max(self._spread // 2, 1)
        self._was_full = look.is_full
        return look.claims, look.unreadable, look.without_room

    async def _look_once(self, look: _PollRound) -> bool:
        """Claim what is due and this worker's, until a claim is refused; tells whether one was."""
        before = look.refused
        look.throttled.clear()
        left_by_others: list[Item] = []
        await self._claim_while_accepted(look, self._take_ahead(), before)
        if look.is_over or look.refused > before:
            return look.refused > before
        for shard in self._rotation.order():
            await self._look_at(shard, look, before, left_by_others)
            if look.is_over or look.refused > before:
                break
        if look.throttled and not look.is_over and look.refused == before:
            # Every other shard was asked. Now there is time to wait for those that are at their limit.
            await self._claim_while_accepted(look, look.throttled, before, patient=True)
        if left_by_others and not look.is_over and look.refused == before:
            left_by_others.sort(key=lambda _: self._options.random())
            await self._claim_while_accepted(look, left_by_others, before)
        return look.refused > before

    async def _look_at(self, shard: int, look: _PollRound, before: int, left_by_others: list[Item]) -> None:
        """Claim what is due in one shard and this worker's."""
        # The rows of the others are read, too; and after a full page, those of the looks to come.
        alone = self._membership.count == 1
        wider = self._spread if alone else self._membership.count + 1
        ahead = self._options.slots if self._was_full else 0
        pages = 0
        throttled = len(look.throttled)
        async for page in self._index.keys(
            self._partitions[shard],
            up_to=self._options.clock(),
            within=look.seconds_left,
            page=min(max(look.limit * wider, ahead), MAX_PAGE),
        ):
            self._ahead_until = anyio.current_time() + AHEAD_SECONDS
            rows, left = self._membership.split_rows(self._not_left_to_others(self._not_just_tried(page)))
            left_by_others += left
            if alone and wider > 1:
                rows.sort(key=lambda _: self._options.random())
            await self._claim_while_accepted(look, rows, before)
            pages += 1
            is_at_limit = len(look.throttled) > throttled
            if look.is_over or look.refused > before or is_at_limit or (pages == MAX_PAGES and not alone):
                break

    def _take_ahead(self) -> list[Item]:
        rows, self._ahead = self._ahead, []
        return rows if anyio.current_time() < self._ahead_until else []

    async def _claim_while_accepted(
        self, look: _PollRound, rows: Sequence[Item], refused: int, *, patient: bool = False
    ) -> None:
        """Claim rows until the look has enough, or one was refused; what is left is for the next look."""
        start = 0
        while start < len(rows) and not look.is_over and look.refused == refused:
            wanted = look.wanted
            tried = rows[start : start + wanted]
            patient = patient or len(self._partitions) == 1
            results = await self._claim_rows(tried, within=look.seconds_left, patient=patient)
            look.without_room += [row for row, result in zip(tried, results, strict=True) if _is_too_large(result)]
            if not patient:
                look.throttled += [row for row, result in zip(tried, results, strict=True) if _is_throttled(result)]
                results = [result for result in results if not _is_throttled(result)]
            look.read([result for result in results if not _is_too_large(result)])
            start += wanted
        if look.is_full and look.refused == refused and start < len(rows):
            self._ahead = list(rows[start:])

    async def _claim_rows(self, rows: Sequence[Item], *, within: float, patient: bool) -> list[WriteResult]:
        if not rows:
            return []
        now = self._options.clock()
        deadline = millis(now + self._options.processing_timeout)
        writes = [
            Write(
                CLAIM,
                row["id"]["S"],
                {"token": {"S": token_hex(16)}, "now": millis(now), "deadline": deadline, "seen": row["gsiSortKey"]},
            )
            for row in rows
        ]
        results = await self._writer.write(writes, within=within, returning=True, patient=patient)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Refused) and self._observers:
                self._observers.notify(ClaimRefused(event_id=row["id"]["S"]))
            if isinstance(result, (Applied, Refused, ItemTooLargeError)):
                self._just_tried[row["id"]["S"], row["gsiSortKey"]["N"]] = anyio.current_time()
        return results

    def _not_just_tried(self, rows: Sequence[Item]) -> list[Item]:
        """Leave out the rows that the index shows as they were before they were claimed, by us or by another worker."""
        forgotten = anyio.current_time() - INDEX_LAG_SECONDS
        while self._just_tried and next(iter(self._just_tried.values())) < forgotten:
            del self._just_tried[next(iter(self._just_tried))]
        return [row for row in rows if (row["id"]["S"], row["gsiSortKey"]["N"]) not in self._just_tried]

    def _not_left_to_others(self, rows: Sequence[Item]) -> Sequence[Item]:
        """Leave out the rows that have no handler here, while another worker may take them."""
        if not self._left_to_others:
            return rows
        now = anyio.current_time()
        return [row for row in rows if self._left_to_others.get(row["id"]["S"], now) <= now]


def _is_too_large(result: WriteResult) -> bool:
    return isinstance(result, ItemTooLargeError)


def _is_throttled(result: WriteResult) -> bool:
    return isinstance(result, ThrottledError) and not result.maybe_applied
