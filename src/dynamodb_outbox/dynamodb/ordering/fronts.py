"""Loads the events at the fronts of the queues that this worker has claimed.

An event at the front that is marked already, because its worker died before the POP, is popped without its handlers.
So is an event that was discarded or deleted while it waited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

import anyio

from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.conditional.transitions import RELEASE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.items.codec import Item, decode_claim, millis
from dynamodb_outbox.dynamodb.items.values import AttributeValue
from dynamodb_outbox.dynamodb.ordering.popping import EventIsStored, Front, Popper
from dynamodb_outbox.dynamodb.ordering.queue import Queue, as_delivered, read_queue
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import concerns_all
from dynamodb_outbox.errors import StorageError, StoredEventError, ThrottledError, UnavailableError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.observers import logger
from dynamodb_outbox.port import OutboxOptions

MAX_SKIPPED: Final = 10
"""The most events that one load takes from a queue without handlers, while the leases of other claims run."""
MAX_SKIPPED_ALONE: Final = 100
"""The same while no other claim waits: a second or two, in which this worker does not poll."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQueue:
    """A queue that this worker has claimed: the item that its last write returned.

    `due` is the sort key that a claim replaced; None if the last write was a POP. For `kept` see `Queue`.
    """

    item: Item
    due: AttributeValue | None = None
    kept: int = 0

    @property
    def holder(self) -> str:
        """The id of the queue."""
        return str(self.item["id"]["S"])

    @property
    def token(self) -> str:
        """The token of the claim."""
        return str(self.item["claimToken"]["S"])


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A claimed item that no handler can get, with the id of the item that bears the lease, and the token.

    The item is an event without an ordering key, the event at the front of a `queue`, or a queue with invalid ids.
    """

    holder: str
    token: str
    error: StoredEventError
    queue: Queue | None = None


Loaded = Claim | Unreadable | StorageError | None
"""A claim of the event at the front, or the reason why there is no claim. With None, the queue is not held any more."""


class Fronts:
    """Loads events from the fronts of queues."""

    def __init__(
        self, caller: Caller, writer: ConditionalWriter, popper: Popper, options: OutboxOptions, timing: Timing
    ) -> None:
        self._caller = caller
        self._writer = writer
        self._popper = popper
        self._options = options
        self._timing = timing

    async def load(self, held: Sequence[HeldQueue], *, within: float, patient: bool = False) -> list[Loaded]:
        """Load the front of each queue, in order. A queue whose front is not loaded in time is released.

        If `patient`, no other claim waits, and more events that are done may be taken from the queues. After a
        `StorageError` and None, this worker does not hold the queue any more, or gives it up.
        """
        results: list[Loaded] = [None] * len(held)
        left = dict(enumerate(held))
        deadline = anyio.current_time() + within
        for skipped in count(1):
            left = await self._load_once(left, results, deadline=deadline)
            is_alone = patient and not any(isinstance(each, Claim) for each in results)
            is_enough = skipped >= (MAX_SKIPPED_ALONE if is_alone else MAX_SKIPPED)
            if not left or is_enough or anyio.current_time() >= deadline:
                break
        await self.release(_tokens_of(left))
        return results

    async def release(self, tokens: Mapping[str, str]) -> None:
        """Make queues due at once for all workers: `tokens` has the token of the claim for the id of each queue.

        After an error, recovery finds the queue when its lease ends.
        """
        due = millis(self._options.clock())
        writes = [Write(RELEASE, holder, {"token": {"S": token}, "due": due}) for holder, token in tokens.items()]
        await self._writer.write(writes, within=self._timing.late_settle, urgent=True)

    async def _load_once(
        self, left: dict[int, HeldQueue], results: list[Loaded], *, deadline: float
    ) -> dict[int, HeldQueue]:
        """Load fronts, and pop the events that are done; return the queues that have another front now."""
        queues = {index: read_queue(each.item) for index, each in left.items()}
        ids = list(dict.fromkeys(queue.front for queue in queues.values() if queue is not None))
        try:
            events = await self._read(ids, deadline=deadline)
        except StorageError as error:
            for index in left:
                results[index] = error
            await self.release(_tokens_of(left))
            return {}
        done: dict[int, Front] = {}
        for index, queue in queues.items():
            event = None if queue is None else events.get(queue.front)
            if queue is not None and (event is None or event.get("status") != {"S": EventStatus.QUEUED.value}):
                done[index] = Front(queue=queue, token=left[index].token, keeps=True, is_missing=event is None)
            else:
                results[index] = self._decode(left[index], queue, event)
        return await self._pop(done, left, results, deadline=deadline)

    async def _read(self, ids: Sequence[str], *, deadline: float) -> dict[str, Any]:
        events: dict[str, Any] = {}
        for start in range(0, len(ids), BATCH_GET):
            within = max(deadline - anyio.current_time(), 0.1)
            events |= await get_items(self._caller, ids[start : start + BATCH_GET], within=within)
        return events

    async def _pop(
        self, done: dict[int, Front], left: dict[int, HeldQueue], results: list[Loaded], *, deadline: float
    ) -> dict[int, HeldQueue]:
        if not done:
            return {}
        within = max(deadline - anyio.current_time(), 0.1)
        popped = await self._popper.pop(list(done.values()), within=within)
        again: dict[int, HeldQueue] = {}
        given_up: list[Front] = []
        for (index, front), result in zip(done.items(), popped, strict=True):
            if front.is_missing and isinstance(result, Applied):
                _note_missing(front.queue)
            match result:
                case Applied(item=item) if item is not None:
                    again[index] = HeldQueue(item=item, kept=left[index].kept)
                case EventIsStored():
                    again[index] = left[index]
                case StorageError() if not concerns_all(result):
                    error = StoredEventError(event_id=front.queue.front, reason=str(result))
                    results[index] = Unreadable(front.queue.id, front.token, error)
                case StorageError():
                    results[index] = result
                    if isinstance(result, (UnavailableError, ThrottledError)):
                        given_up.append(front)
                case _:
                    results[index] = None
        if given_up:
            # The queue has the next token if the POP was applied. At once, because the leases of other claims run.
            async with anyio.create_task_group() as group:
                group.start_soon(self.release, {front.queue.id: front.token for front in given_up})
                group.start_soon(self.release, {front.queue.id: front.next_token for front in given_up})
        return again

    def _decode(self, held: HeldQueue, queue: Queue | None, event: Item | None) -> Claim | Unreadable:
        if queue is None or event is None:
            error = StoredEventError(event_id=held.holder, reason="it is not the queue of an ordering key")
            return Unreadable(held.holder, held.token, error)
        try:
            claim = decode_claim(as_delivered(event, held.item), numbers=self._options.numbers, due=held.due)
        except StoredEventError as error:
            return Unreadable(queue.id, held.token, error, queue)
        return replace(claim, queue=replace(queue, kept=held.kept))


def _tokens_of(held: Mapping[int, HeldQueue]) -> dict[str, str]:
    return {each.holder: each.token for each in held.values()}


def _note_missing(queue: Queue) -> None:
    logger.warning(
        "event %r of the ordering key %r is not stored any more, so the events behind it go on without it",
        queue.front,
        queue.key,
    )
