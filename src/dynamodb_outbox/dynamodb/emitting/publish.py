"""Storing new events: a PutItem for one event, BatchWriteItems for many.

A BatchWriteItem has no conditions, so its repeat could reset an event that a worker has claimed meanwhile. It is used
only for ids that the library made and never sent before. If its response is lost, each of its 25 events is sent again
as a PutItem with a condition. If a caller repeats an emit, `InFlight` lets the writes of the id follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from dynamodb_outbox.claims import EmitClaim
from dynamodb_outbox.dynamodb.emitting.emit_queue import EmitQueue
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.publish_result import (
    PublishResult,
    Put,
    chunks_of,
    is_same_claim,
    is_same_event,
    stored_event,
)
from dynamodb_outbox.dynamodb.items.codec import Item, encode_claimed, encode_event
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller, ConditionRefused
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind
from dynamodb_outbox.dynamodb.transport.client import sent_once
from dynamodb_outbox.dynamodb.transport.responses import unprocessed_of
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import (
    DuplicateEventError,
    StorageError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions, raise_unless_stored, refuse_repeated_ids

LEAST_PUT_SECONDS: Final = 1.0
"""How long a conditional put is tried that starts just before its deadline, or after it."""


class Publisher:
    """Stores new events. Single events of ids made here share writes, see `EmitQueue`."""

    def __init__(
        self,
        caller: Caller,
        options: OutboxOptions,
        *,
        shards: Shards,
        group_emits: bool,
        in_flight: TableInFlight,
        timing: Timing,
    ) -> None:
        self._caller = caller
        self._shards = shards
        self._options = options
        self._group_emits = group_emits
        self._in_flight = in_flight
        self._timing = timing
        self._queue = EmitQueue(self._write_chunk, new_result=self._new_result, longest_wait=timing.emit_group)

    def _new_result(self) -> PublishResult:
        return PublishResult(self._in_flight.of_running_loop(), numbers=self._options.numbers)

    async def publish(self, events: Sequence[Event], *, due_at: float, emit_claim: EmitClaim | None = None) -> None:
        """Store the events. If an event is invalid, none of them is sent."""
        refuse_repeated_ids(events)
        encoded = [encode_event(event, due_at=due_at, numbers=self._options.numbers) for event in events]
        event_ids = [event.id for event in events]
        in_flight = self._in_flight.of_running_loop()
        if not in_flight.try_enter(event_ids):
            await in_flight.enter(event_ids)
        # Only now, when every event is storable and no other write of its id can start, do the ids count as published.
        puts = [
            self._put_of(event, item, size, emit_claim) for event, (item, size) in zip(events, encoded, strict=True)
        ]
        if len(puts) == 1:
            await self._store_one(puts[0])
        else:
            await self._store_many(puts)
        raise_unless_stored(events, {put.event.id: put.error for put in puts if put.error is not None})

    async def finish(self) -> None:
        """Wait until the shared requests that go on without their callers are answered."""
        await self._queue.finish()

    def _put_of(self, event: Event, item: Item, size: int, emit_claim: EmitClaim | None) -> Put:
        is_claimed = emit_claim is not None and event.id in emit_claim.tokens
        return Put(event, self._shards.placed(item), size, event.take_unpublished(), emit_claim if is_claimed else None)

    async def _store_one(self, put: Put) -> None:
        """Store one event: alone if no write is under way, else together with the other emits that wait."""
        if not (self._group_emits and put.unpublished):
            await self._store_alone(put)
        elif self._queue.is_busy:
            await self._queue.put(put)
        else:
            write = self._queue.begin()
            try:
                await self._store_alone(put)
            finally:
                self._queue.end(write)

    async def _store_alone(self, put: Put) -> None:
        result = self._new_result()
        try:
            await self._put(put, result, anyio.current_time() + self._timing.publish)
        finally:
            result.abandon([put])

    async def _store_many(self, puts: Sequence[Put]) -> None:
        result = self._new_result()
        try:
            async with anyio.create_task_group() as group:
                for chunk in chunks_of([put for put in puts if put.unpublished]):
                    group.start_soon(self._write_in_turn, chunk, result)
                for put in puts:
                    if not put.unpublished:
                        group.start_soon(self._put_in_turn, put, result)
        finally:
            for put in puts:
                put.is_wanted = False
            result.abandon([put for put in puts if not put.is_sending])

    def _begin_lease(self, put: Put) -> None:
        """Start the lease of an event claimed on emit now, unless an earlier attempt may have stored another."""
        if put.emit_claim is None:
            return
        put.emit_claim.sending()
        if put.maybe_stored:
            return
        now = self._options.clock()
        ends = now + self._options.processing_timeout
        item = encode_claimed(put.item, token=put.emit_claim.tokens[put.event.id], now=now, lease_expires_at=ends)
        put.item = self._shards.placed(item)

    # One by one

    async def _put_in_turn(self, put: Put, result: PublishResult, deadline: float | None = None) -> None:
        async with result.puts:
            if not put.is_wanted:
                result.abandon([put])
            elif result.given_up is not None:
                result.fail_unsent([put], result.given_up)
            else:
                await self._put(put, result, deadline or anyio.current_time() + self._timing.publish)

    async def _put(self, put: Put, result: PublishResult, deadline: float) -> None:
        """Store one event unless its id is taken."""
        self._begin_lease(put)
        try:
            await self._caller.call(
                "put_item",
                within=max(deadline - anyio.current_time(), LEAST_PUT_SECONDS),
                TableName=self._caller.table_name,
                Item=put.item,
                ConditionExpression="attribute_not_exists(id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            self._judge_refused(put, refused, result)
        except StorageError as error:
            result.fail([put], error)
        else:
            result.stored(put)

    def _judge_refused(self, put: Put, refused: ConditionRefused, result: PublishResult) -> None:
        """Find out whether an earlier attempt of this write has stored the id, or another emit."""
        stored = refused.item
        tried_before = refused.repeated or put.maybe_stored
        if isinstance(stored, dict) and is_same_event(put.item, stored) and (put.unpublished or tried_before):
            if is_same_claim(put.item, stored):
                result.stored(put)
                return
            if put.unpublished and tried_before:
                result.taken_over(put)
                return
        found = stored_event(stored, numbers=result.numbers)
        result.fail([put], DuplicateEventError(event_id=put.event.id, stored=found))

    # In batches

    async def _write_in_turn(self, chunk: list[Put], result: PublishResult) -> None:
        async with result.batches:
            if result.given_up is not None:
                result.fail_unsent(chunk, result.given_up)
            else:
                await self._queue.written(self._queue.start(chunk, result), chunk)

    async def _write_chunk(self, chunk: list[Put], result: PublishResult) -> None:
        try:
            if len(chunk) == 1:
                await self._put(chunk[0], result, anyio.current_time() + self._timing.publish)
            else:
                await self._write_batch(chunk, result)
        except Exception as error:  # each caller whose event it was gets it
            result.fail([put for put in chunk if not put.is_done], self._caller.fatal(error, "BatchWriteItem"))

    async def _write_batch(self, chunk: list[Put], result: PublishResult) -> None:
        """Store a chunk of events whose ids were never sent before."""
        retries = Retries(self._timing.publish, random=self._caller.random)
        # Callers may have given up before the first request.
        result.abandon([put for put in chunk if put.is_given_up])
        left = {put.event.id: put for put in chunk if not put.is_done}
        while left:
            try:
                unprocessed = await self._send(list(left.values()))
                cause = deadline_error(
                    "BatchWriteItem",
                    ErrorKind.THROTTLED,
                    attempts=retries.attempts + 1,
                    reason="events came back unprocessed",
                )
            except (ThrottledError, UnavailableError) as error:
                if error.maybe_applied:
                    for put in left.values():
                        put.maybe_stored = True
                    await self._put_each(list(left.values()), result, retries.deadline)
                    return
                unprocessed, cause = list(left), error
            except StorageError as error:
                result.fail(left.values(), error)
                return
            again = {event_id: left[event_id] for event_id in unprocessed}
            result.stored(*(put for event_id, put in left.items() if event_id not in again))
            result.abandon([put for put in again.values() if not put.is_wanted])
            left = {event_id: put for event_id, put in again.items() if put.is_wanted}
            if left and not await retries.wait():
                result.fail(left.values(), cause)
                return

    async def _put_each(self, puts: Sequence[Put], result: PublishResult, deadline: float) -> None:
        async with anyio.create_task_group() as group:
            for put in puts:
                group.start_soon(self._put_in_turn, put, result, deadline)

    async def _send(self, puts: list[Put]) -> list[str]:
        """Send one BatchWriteItem; the ids that came back unprocessed.

        Events of an abandoned batch are sent again. Wait past the deadline, so that the first request is unlikely to be
        still in flight.
        """
        table_name = self._caller.table_name
        for put in puts:
            self._begin_lease(put)
        requests = [{"PutRequest": {"Item": put.item}} for put in puts]
        with sent_once(self._caller.client, "BatchWriteItem"):
            unprocessed: list[str] = await self._caller.call(
                "batch_write_item",
                within=2 * self._timing.batch_response,  # an attempt has half of what is left
                once=True,
                read=unprocessed_of(table_name, [put.event.id for put in puts]),
                RequestItems={table_name: requests},
            )
        return unprocessed
