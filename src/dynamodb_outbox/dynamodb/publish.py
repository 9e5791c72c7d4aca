"""Storing new events: PutItem for one, BatchWriteItem for many.

BatchWriteItem takes no condition. It is used only for ids made here that were never sent before, and only
on the first try: whatever is ambiguous goes again as a conditional put, so that no repeat of ours can reset
an event that was already claimed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.client import Backoff, Caller, ConditionRefused, sent_once
from dynamodb_outbox.dynamodb.codec import Item, claimed_at_birth, encode_event
from dynamodb_outbox.dynamodb.publication import MAX_BATCH_ITEMS, Publication, Put, chunks_of, is_same_event
from dynamodb_outbox.dynamodb.replies import unprocessed_of
from dynamodb_outbox.dynamodb.shards import Shards
from dynamodb_outbox.errors import (
    DuplicateEventError,
    OutboxError,
    StorageError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.outbox import Birth, OutboxOptions, raise_unless_stored, refuse_repeated_ids

CONCURRENT_REQUESTS: Final = 8
PUBLISH_SECONDS: Final = 10.0
"""Until when a write is begun anew, counted from its first attempt; what is under way then may still be answered."""
ANSWER_SECONDS: Final = 5.0
"""How long a batch may take to be answered, however late it is sent."""


class Publisher:
    """Stores new events.

    Single events of ids made here share writes, by group commit: the first goes at once; those that come while it is
    under way go together when it returns, or when they fill a request. Nothing waits on purpose.
    """

    def __init__(self, caller: Caller, options: OutboxOptions, *, shards: Shards, group_emits: bool) -> None:
        self._caller = caller
        self._shards = shards
        self._options = options
        self._group_emits = group_emits
        self._chunks = anyio.CapacityLimiter(CONCURRENT_REQUESTS)
        self._puts = anyio.CapacityLimiter(CONCURRENT_REQUESTS)
        self._waiting: list[Put] = []
        self._under_way = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def publish(self, events: Sequence[Event], *, due_at: float, birth: Birth | None = None) -> None:
        """Store the events; what is refused, is refused before the first of them is sent."""
        refuse_repeated_ids(events)
        encoded = [encode_event(event, due_at=due_at, numbers=self._options.numbers) for event in events]
        # Only now, when every event is known to be storable, does an id cease to be unpublished.
        puts = [self._put_of(event, item, size, birth) for event, (item, size) in zip(events, encoded, strict=True)]
        publication = Publication(numbers=self._options.numbers)
        if len(puts) == 1:
            await self._put_together(puts[0], publication)
        else:
            async with anyio.create_task_group() as group:
                for chunk in chunks_of([put for put in puts if put.unpublished]):
                    group.start_soon(self._write_batch, chunk, publication)
                for put in puts:
                    if not put.unpublished:
                        group.start_soon(self._put_in_turn, put, publication)
        raise_unless_stored(events, publication.causes)

    def _put_of(self, event: Event, item: Item, size: int, birth: Birth | None) -> Put:
        is_born = birth is not None and event.id in birth.tokens
        return Put(event, self._shards.placed(item), size, event.take_unpublished(), birth if is_born else None)

    def _begin_lease(self, put: Put) -> None:
        """Let the lease of a birth begin now; not if an earlier attempt may have stored another."""
        if put.birth is None or put.maybe_stored:
            return
        now = self._options.clock()
        ends = now + self._options.processing_timeout
        item = claimed_at_birth(put.item, token=put.birth.tokens[put.event.id], now=now, lease_expires_at=ends)
        put.item = self._shards.placed(item)

    # Group commit

    async def _put_together(self, put: Put, publication: Publication) -> None:
        """Store one event, alone if nothing is under way, else with the others that wait."""
        if self._group_emits and put.unpublished and self._under_way:
            put.written = asyncio.get_running_loop().create_future()
            self._waiting.append(put)
            self._write_waiting()
            await put.written
            return
        self._under_way += 1
        try:
            await self._put(put, publication, anyio.current_time() + PUBLISH_SECONDS)
        finally:
            self._under_way -= 1
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting and (
            not self._under_way or (len(self._waiting) >= MAX_BATCH_ITEMS and self._under_way < CONCURRENT_REQUESTS)
        ):
            chunk = chunks_of(self._waiting[:MAX_BATCH_ITEMS])[0]
            del self._waiting[: len(chunk)]
            self._under_way += 1
            publication = Publication(numbers=self._options.numbers)
            # In a task of its own, that no cancellation of one caller takes from the others. It ends by its deadline.
            task = asyncio.create_task(self._write_group(chunk, publication), name="dynamodb-outbox emits")
            self._writing.add(task)
            # Not at the end of the task: one that is cancelled before it begins has none.
            task.add_done_callback(partial(self._group_is_written, chunk, publication))

    async def _write_group(self, chunk: list[Put], publication: Publication) -> None:
        try:
            if len(chunk) == 1:
                await self._put(chunk[0], publication, anyio.current_time() + PUBLISH_SECONDS)
            else:
                await self._write_batch(chunk, publication)
        except Exception as error:  # told to each caller whose event it was
            publication.fail(chunk, self._caller.fatal(error, "BatchWriteItem"))

    def _group_is_written(self, chunk: list[Put], publication: Publication, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        self._under_way -= 1
        if task.cancelled():
            # The loop ends. What has no answer yet is not known to be stored.
            unknown = UnavailableError(operation="BatchWriteItem", attempts=1, reason="cancelled", maybe_applied=True)
            publication.fail([put for put in chunk if put.event.id not in publication.known], unknown)
        self._write_waiting()
        for put in chunk:
            _tell(put, publication.causes.get(put.event.id))

    # Writing

    async def _put_in_turn(self, put: Put, publication: Publication, deadline: float | None = None) -> None:
        async with self._puts:
            if publication.given_up is not None:
                publication.fail_unsent([put], publication.given_up)
            else:
                await self._put(put, publication, deadline or anyio.current_time() + PUBLISH_SECONDS)

    async def _put(self, put: Put, publication: Publication, deadline: float) -> None:
        """Store one event unless its id is taken."""
        self._begin_lease(put)
        try:
            await self._caller.call(
                "put_item",
                within=max(deadline - anyio.current_time(), 1.0),
                TableName=self._caller.table_name,
                Item=put.item,
                ConditionExpression="attribute_not_exists(id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            # An id made here a moment ago can only be taken by an earlier attempt of ours.
            ours = put.unpublished or (refused.repeated and is_same_event(put.item, refused.item))
            if not ours:
                publication.fail([put], DuplicateEventError(event_id=put.event.id))
                return
        except StorageError as error:
            publication.fail([put], error)
            return
        publication.stored(put)

    async def _write_batch(self, chunk: list[Put], publication: Publication) -> None:
        """Store a chunk of events that nobody can have stored before."""
        async with self._chunks:
            if publication.given_up is not None:
                publication.fail_unsent(chunk, publication.given_up)
                return
            deadline = anyio.current_time() + PUBLISH_SECONDS
            backoff = Backoff(self._caller.random)
            left = {put.event.id: put for put in chunk}
            while left:
                try:
                    unprocessed = await self._send(list(left.values()))
                    cause: StorageError = _unprocessed(backoff)
                except (ThrottledError, UnavailableError) as error:
                    if isinstance(error, UnavailableError) and error.maybe_applied:
                        for put in left.values():
                            put.maybe_stored = True
                        await self._put_each(list(left.values()), publication, deadline)
                        return
                    unprocessed, cause = list(left), error
                except StorageError as error:
                    publication.fail(left.values(), error)
                    return
                again = {event_id: left[event_id] for event_id in unprocessed}
                publication.stored(*(put for event_id, put in left.items() if event_id not in again))
                left = again
                delay = backoff.next_delay() if left else 0.0
                if left and anyio.current_time() + delay >= deadline:
                    publication.fail(left.values(), cause)
                    return
                if left:
                    await anyio.sleep(delay)

    async def _put_each(self, puts: Sequence[Put], publication: Publication, deadline: float) -> None:
        async with anyio.create_task_group() as group:
            for put in puts:
                group.start_soon(self._put_in_turn, put, publication, deadline)

    async def _send(self, puts: list[Put]) -> list[str]:
        """Send one BatchWriteItem; the ids that came back unprocessed.

        Once it is given up its events go again, and it had better not be on its way any more: so it is waited for also
        beyond the deadline.
        """
        table_name = self._caller.table_name
        for put in puts:
            self._begin_lease(put)
        requests = [{"PutRequest": {"Item": put.item}} for put in puts]
        with sent_once(self._caller.client, "BatchWriteItem"):
            unprocessed: list[str] = await self._caller.call(
                "batch_write_item",
                within=2 * ANSWER_SECONDS,  # an attempt has half of what is left
                once=True,
                read=unprocessed_of(table_name, [put.event.id for put in puts]),
                RequestItems={table_name: requests},
            )
        return unprocessed


def _tell(put: Put, error: OutboxError | None) -> None:
    """Give a caller the result of its own event; one that was cancelled wants none."""
    if put.written is not None and not put.written.done():
        if error is None:
            put.written.set_result(None)
        else:
            put.written.set_exception(error)


def _unprocessed(backoff: Backoff) -> ThrottledError:
    return ThrottledError(
        operation="BatchWriteItem", attempts=backoff.attempts + 1, reason="events came back unprocessed"
    )
