"""Claiming due events: a query of the index, then one conditional write for each row.

The write is `CLAIM` in `transitions.py`: PROCESSING, a new token and the end of the lease. DynamoDB refuses it if the
event is not PENDING any more with the sort key that the query returned, because another worker was faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Final

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.transitions import CLAIM, CLAIM_UNNAMED, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused, WriteResult
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex, poll_timeout
from dynamodb_outbox.dynamodb.delivering.membership import WorkerMembership
from dynamodb_outbox.dynamodb.delivering.row_selector import RowSelector
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.fronts import Fronts, HeldQueue, Unreadable
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id
from dynamodb_outbox.dynamodb.schema.shards import Rotation
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.errors import ItemTooLargeError, StorageError, StoredEventError, ThrottledError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import ClaimRefused, Observers
from dynamodb_outbox.port import Numbers, OutboxOptions
from dynamodb_outbox.worker_identity import worker_identity

MAX_PAGES: Final = 4
"""The most pages of a shard that a worker among others reads in one pass, in search of its own rows."""
LEAST_CALL_SECONDS: Final = 0.5
"""The shortest time limit of a call, even when the time of the poll is over."""
MAX_PASSES: Final = 5
"""The most passes of one poll. A refused claim starts another pass: other workers claim the same events."""


@dataclass(slots=True)
class PollRound:
    """The rows and claims of one poll, until now.

    A poll makes a pass over the shards. A refused claim ends the pass: another worker is at the same events, so the
    rows are read again.
    """

    limit: int
    numbers: Numbers
    seconds: float
    """The time limit of one call, and of the poll from its first claim on: the leases of its claims run already."""
    ends_at: float = math.inf
    claims: list[Claim] = field(default_factory=list[Claim])
    queues: list[HeldQueue] = field(default_factory=list[HeldQueue])
    """The queues of ordering keys that were claimed, whose events are not loaded yet."""
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])
    """The claimed items that are not readable events."""
    without_room: list[Item] = field(default_factory=list[Item])
    """The rows whose items a claim would make too large."""
    refused: int = 0
    throttled: list[Item] = field(default_factory=list[Item])
    """The rows of this pass whose claims were throttled."""
    overdue: list[Item] = field(default_factory=list[Item])
    """The rows of this pass that other workers should have claimed by now."""
    _refused_before: int = 0

    def start_pass(self) -> None:
        """Start a pass over the shards."""
        self._refused_before = self.refused
        self.throttled.clear()
        self.overdue.clear()

    @property
    def wanted(self) -> int:
        """How many more claims the poll may make."""
        return self.limit - len(self.claims) - len(self.queues)

    @property
    def is_full(self) -> bool:
        """Whether the poll has as many claims as it may make."""
        return self.wanted <= 0

    @property
    def is_over(self) -> bool:
        """Whether the poll is full, or its time is over."""
        return self.is_full or anyio.current_time() >= self.ends_at

    @property
    def is_pass_refused(self) -> bool:
        """Whether a claim of this pass was refused."""
        return self.refused > self._refused_before

    @property
    def is_pass_over(self) -> bool:
        """Whether this pass makes no more claims."""
        return self.is_over or self.is_pass_refused

    @property
    def seconds_left(self) -> float:
        """How long the next call may take."""
        return max(min(self.seconds, self.ends_at - anyio.current_time()), LEAST_CALL_SECONDS)

    def record(self, rows: Sequence[Item], results: Sequence[WriteResult], *, patient: bool) -> None:
        """Record the results of claims. Raises the first error among them, after everything is recorded.

        Unless `patient`, a throttled claim is not an error: the poll tries the row again after the other shards.
        """
        errors: list[StorageError] = []
        for row, result in zip(rows, results, strict=True):
            match result:
                case Applied(item=item):
                    if item is not None:
                        self._read(item, due=row["gsiSortKey"])
                case Refused():
                    self.refused += 1
                case ItemTooLargeError():
                    self.without_room.append(row)
                case ThrottledError(maybe_applied=False) if not patient:
                    self.throttled.append(row)
                case StorageError():
                    errors.append(result)
        if (self.claims or self.queues) and math.isinf(self.ends_at):
            self.ends_at = anyio.current_time() + self.seconds
        if errors:
            raise errors[0]

    def _read(self, item: Item, *, due: AttributeValue) -> None:
        if is_queue_id(item["id"]["S"]):
            self.queues.append(HeldQueue(item=item, due=due))
            return
        try:
            self.claims.append(decode_claim(item, numbers=self.numbers, due=due))
        except StoredEventError as error:
            self.unreadable.append(Unreadable(error.event_id, item["claimToken"]["S"], error))


class Claimer:
    """Finds due events in the index and claims them."""

    def __init__(
        self,
        index: StatusIndex,
        writer: ConditionalWriter,
        options: OutboxOptions,
        *,
        membership: WorkerMembership,
        rows: RowSelector,
        fronts: Fronts,
        observers: Observers,
        timing: Timing,
    ) -> None:
        self._partitions = index.partitions(EventStatus.PENDING)
        self._rotation = Rotation(len(self._partitions), start=options.random())
        self._index = index
        self._fronts = fronts
        self._membership = membership
        self._writer = writer
        self._options = options
        self._observers = observers
        self._rows = rows
        self._timing = timing
        self._was_full = False
        self._ahead: list[Item] = []
        self._ahead_until = -math.inf

    async def claim(self, limit: int) -> PollRound:
        """Claim up to `limit` events, roughly the longest due first in each shard.

        Raises `StorageError` only while nothing was claimed.
        """
        poll = PollRound(limit=limit, numbers=self._options.numbers, seconds=poll_timeout(self._options, self._timing))
        try:
            for _ in range(MAX_PASSES):
                # Before `start_pass`, which forgets whether the pass before was refused.
                await self._membership.heartbeat(refused=poll.is_pass_refused)
                poll.start_pass()
                await self._make_pass(poll)
                if poll.is_over or not poll.is_pass_refused:
                    break
        except StorageError:
            if not (poll.claims or poll.queues or poll.unreadable or poll.without_room):
                raise
        self._rows.adapt(refused=poll.refused > 0)
        self._was_full = poll.is_full
        if poll.queues:
            await self._load_fronts(poll)
        return poll

    async def _load_fronts(self, poll: PollRound) -> None:
        """Load the events at the fronts of the claimed queues. Raises `StorageError` while nothing was claimed."""
        queues, poll.queues = poll.queues, []
        errors: list[StorageError] = []
        is_alone = not (poll.claims or poll.unreadable or poll.without_room)
        for loaded in await self._fronts.load(queues, within=poll.seconds_left, patient=is_alone):
            match loaded:
                case Claim():
                    poll.claims.append(loaded)
                case Unreadable():
                    poll.unreadable.append(loaded)
                case StorageError():
                    errors.append(loaded)
                case None:
                    pass
        if errors and not (poll.claims or poll.unreadable or poll.without_room):
            raise errors[0]

    async def _make_pass(self, poll: PollRound) -> None:
        """Claim the due rows of this worker, then rows that other workers have left, until a claim is refused."""
        await self._claim_rows(self._take_ahead(), poll)
        if poll.is_pass_over:
            return
        for shard in self._rotation.order():
            await self._claim_of_shard(shard, poll)
            if poll.is_pass_over:
                return
        # Every other shard was asked. Now there is time to wait for the shards that throttled.
        # patient=True is needed: an impatient throttle would append to the list that is being worked off.
        await self._claim_rows(poll.throttled, poll, patient=True)
        if poll.is_pass_over:
            return
        self._rows.shuffle(poll.overdue)
        await self._claim_rows(poll.overdue, poll)

    async def _claim_of_shard(self, shard: int, poll: PollRound) -> None:
        """Claim the due rows of this worker in one shard, a page at a time."""
        # After a full poll, read enough for the next polls: with 50 slots and a limit of 10, 50 rows serve five polls.
        ahead = self._options.slots if self._was_full else 0
        pages = 0
        throttled = len(poll.throttled)
        async for page in self._index.keys(
            self._partitions[shard],
            up_to=self._options.clock(),
            within=poll.seconds_left,
            page=self._rows.page_size(poll.limit, at_least=ahead),
        ):
            self._ahead_until = anyio.current_time() + self._timing.read_ahead
            mine, overdue = self._rows.select(page)
            poll.overdue += overdue
            await self._claim_rows(mine, poll)
            pages += 1
            is_throttled = len(poll.throttled) > throttled
            if poll.is_pass_over or is_throttled or (pages == MAX_PAGES and not self._rows.is_alone):
                break

    def _take_ahead(self) -> list[Item]:
        rows, self._ahead = self._ahead, []
        return rows if anyio.current_time() < self._ahead_until else []

    async def _claim_rows(self, rows: Sequence[Item], poll: PollRound, *, patient: bool = False) -> None:
        """Claim rows until the poll has enough, or a claim is refused. A full poll keeps the rest for the next."""
        # Without shards, wait out a throttle: there is no other shard to ask meanwhile.
        patient = patient or len(self._partitions) == 1
        start = 0
        while start < len(rows) and not poll.is_pass_over:
            tried = rows[start : start + poll.wanted]
            start += len(tried)
            poll.record(tried, await self._write(tried, within=poll.seconds_left, patient=patient), patient=patient)
        if poll.is_full and not poll.is_pass_refused and start < len(rows):
            self._ahead = list(rows[start:])

    async def _write(self, rows: Sequence[Item], *, within: float, patient: bool) -> list[WriteResult]:
        # If the answer to a claim never comes, the event may be PROCESSING although no worker knows its token. Recovery
        # resets it after its lease, and counts an attempt.
        now = self._options.clock()
        deadline = millis(now + self._options.processing_timeout)
        worker = {"S": worker_identity.text}
        writes = [
            Write(
                CLAIM,
                row["id"]["S"],
                {
                    "token": {"S": token_hex(16)},
                    "worker": worker,
                    "now": millis(now),
                    "deadline": deadline,
                    "seen": row["gsiSortKey"],
                },
            )
            for row in rows
        ]
        results = await self._writer.write(writes, within=within, patient=patient)
        too_large = [index for index, result in enumerate(results) if isinstance(result, ItemTooLargeError)]
        smaller = [replace(writes[index], transition=CLAIM_UNNAMED) for index in too_large]
        again = await self._writer.write(smaller, within=within, patient=patient)
        for index, result in zip(too_large, again, strict=True):
            results[index] = result
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Refused) and self._observers:
                self._observers.notify(ClaimRefused(event_id=row["id"]["S"]))
            if isinstance(result, (Applied, Refused, ItemTooLargeError)):
                self._rows.remember_tried(row)
        return results
