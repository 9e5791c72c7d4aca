"""Storing new events: a PutItem for one event, BatchWriteItems or PartiQL `INSERT`s for many.

A BatchWriteItem has no conditions, so its repeat could reset an event that a worker has claimed meanwhile. It is used
only for ids that the library made and never sent before. If its response is lost, each of its 25 events is sent again
as a PutItem with a condition. If a caller repeats an emit, `InFlight` lets the writes of the id follow each other.

Events with numbered ids (see `event_ids.py`) go as `INSERT`s, or as PutItems where there are no `INSERT`s, so that they
can be stored in a window. A BatchWriteItem could also replace events of a copied virtual machine, which makes the same
ids. Events with ordering keys go in the same way, since the status of a stored one must never be set back. Then the
queues of their keys list them; see `OrderedEvents`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from dynamodb_outbox.claims import EmitClaim
from dynamodb_outbox.dynamodb.emitting.emit_queue import EmitQueue
from dynamodb_outbox.dynamodb.emitting.forms import Forms
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.dynamodb.emitting.inserts import Inserts
from dynamodb_outbox.dynamodb.emitting.ordered_events import OrderedEvents
from dynamodb_outbox.dynamodb.emitting.publish_result import Place, PublishResult, Put, chunks_of
from dynamodb_outbox.dynamodb.emitting.single_puts import SinglePuts
from dynamodb_outbox.dynamodb.items.codec import Item, encode_event
from dynamodb_outbox.dynamodb.ordering.arrivals import Moment
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind
from dynamodb_outbox.dynamodb.transport.client import sent_once
from dynamodb_outbox.dynamodb.transport.responses import unprocessed_of
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import StorageError, ThrottledError, UnavailableError
from dynamodb_outbox.event import Event
from dynamodb_outbox.port import OutboxOptions, raise_unless_stored, refuse_repeated_ids

_WriteGroup = Callable[[Sequence[Put], PublishResult], Awaitable[None]]


class Publisher:
    """Stores new events. Single events of ids made here share writes, see `EmitQueue`."""

    def __init__(
        self,
        caller: Caller,
        options: OutboxOptions,
        *,
        forms: Forms,
        ordered: OrderedEvents,
        shards: Shards,
        group_emits: bool,
        in_flight: TableInFlight,
        timing: Timing,
    ) -> None:
        self._caller = caller
        self._keeper = forms.keeper
        self._singles = SinglePuts(caller, forms, timing=timing)
        self._inserts = Inserts(caller, self._singles, timing=timing)
        self._shards = shards
        self._options = options
        self._group_emits = group_emits
        self._in_flight = in_flight
        self._timing = timing
        self._ordered = ordered
        self._queue = EmitQueue(self._write_chunk, new_result=self._new_result, longest_wait=timing.emit_group)

    def _new_result(self) -> PublishResult:
        return PublishResult(self._in_flight.of_running_loop(), keeper=self._keeper, numbers=self._options.numbers)

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
        if len(puts) > 1 and emit_claim is not None:
            # Already now, because the requests begin in later steps of the event loop: see `EmitQueue.start`.
            emit_claim.sending()
        ordered = [put for put in puts if put.is_ordered]
        if not ordered:
            await self._store_without_order(puts)
        elif len(ordered) == len(puts):
            await self._store_in_order(puts, emit_claim)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(self._store_without_order, [put for put in puts if not put.is_ordered])
                group.start_soon(self._store_in_order, ordered, emit_claim)
        raise_unless_stored(events, {put.event.id: put.error for put in puts if put.error is not None})

    async def finish(self) -> None:
        """Wait until the shared requests that go on without their callers are answered."""
        await self._queue.finish()
        await self._ordered.finish()

    def _put_of(self, event: Event, item: Item, size: int, emit_claim: EmitClaim | None) -> Put:
        if event.ordering_key is not None:
            # In no index, and so in no shard. Its queue is claimed, not the event.
            return Put(event, item, size, event.take_unpublished(), None)
        is_claimed = emit_claim is not None and event.id in emit_claim.tokens
        return Put(event, self._shards.placed(item), size, event.take_unpublished(), emit_claim if is_claimed else None)

    async def _store_without_order(self, puts: Sequence[Put]) -> None:
        """Store events without ordering keys."""
        await self._store(puts)
        if unlisted := [put for put in puts if put.place is Place.UNKNOWN]:
            # Their ids are those of events with ordering keys, which were stored before.
            await self._ordered.append(unlisted, None, began=Moment.now(self._options.clock))

    async def _store_in_order(self, puts: Sequence[Put], emit_claim: EmitClaim | None) -> None:
        """Store events with ordering keys, and append them to the queues of their keys."""
        began = Moment.now(self._options.clock)
        try:
            await self._store(puts)
            await self._ordered.append(puts, emit_claim, began=began)
        finally:
            in_flight = self._in_flight.of_running_loop()
            for put in puts:
                in_flight.leave(put.event.id)

    async def _store(self, puts: Sequence[Put]) -> None:
        if len(puts) == 1:
            await self._store_one(puts[0])
        else:
            await self._store_many(puts)

    async def _store_one(self, put: Put) -> None:
        """Store one event: alone if no write is under way, else together with the other emits that wait."""
        if not (self._group_emits and put.unpublished and self._goes_in_groups(put)):
            await self._store_alone(put)
        elif self._queue.is_busy:
            await self._queue.put(put)
        else:
            write = self._queue.begin()
            try:
                await self._store_alone(put)
            finally:
                self._queue.end(write)

    def _goes_in_groups(self, put: Put) -> bool:
        return not _is_inserted(put) or self._keeper.inserts

    async def _store_alone(self, put: Put) -> None:
        result = self._new_result()
        try:
            await self._singles.put(put, result, anyio.current_time() + self._timing.publish)
        finally:
            result.abandon([put])

    async def _store_many(self, puts: Sequence[Put]) -> None:
        result = self._new_result()
        try:
            async with anyio.create_task_group() as group:
                for chunk in chunks_of([put for put in puts if put.unpublished or put.is_ordered]):
                    group.start_soon(self._write_in_turn, chunk, result)
                for put in puts:
                    if not (put.unpublished or put.is_ordered):
                        group.start_soon(self._singles.put_in_turn, put, result)
        finally:
            for put in puts:
                put.is_wanted = False
            result.abandon([put for put in puts if not put.is_sending])

    # In batches

    async def _write_in_turn(self, chunk: list[Put], result: PublishResult) -> None:
        async with result.batches:
            if result.given_up is not None:
                result.fail_unsent(chunk, result.given_up)
            else:
                await self._queue.written(self._queue.start(chunk, result), chunk)

    async def _write_chunk(self, chunk: list[Put], result: PublishResult) -> None:
        has_inserts = sum(_is_inserted(put) for put in chunk) > 1
        insert = self._inserts.insert if has_inserts and await self._takes_inserts() else self._put_each
        # Callers may have given up before the first request.
        result.abandon([put for put in chunk if put.is_given_up])
        left = [put for put in chunk if not put.is_done]
        inserted = [put for put in left if _is_inserted(put)]
        if not inserted:
            await self._write_group(left, result, self._write_batch)
        elif len(inserted) == len(left):
            await self._write_group(left, result, insert)
        else:
            others = [put for put in left if put not in inserted]
            async with anyio.create_task_group() as group:
                group.start_soon(self._write_group, inserted, result, insert)
                group.start_soon(self._write_group, others, result, self._write_batch)

    async def _takes_inserts(self) -> bool:
        try:
            return await self._keeper.takes_inserts(within=self._timing.batch_response)
        except StorageError:
            # The PutItems that follow find out what is wrong.
            return False

    async def _write_group(self, puts: list[Put], result: PublishResult, write: _WriteGroup) -> None:
        try:
            if len(puts) == 1:
                await self._singles.put(puts[0], result, anyio.current_time() + self._timing.publish)
            else:
                await write(puts, result)
        except Exception as error:  # each caller whose event it was gets it
            left = [put for put in puts if not put.is_done]
            for put in left:
                # Its window keeps the event until it is known whether it is stored.
                put.maybe_stored = put.maybe_stored or put.entry is not None
            result.fail(left, self._caller.fatal(error, "BatchWriteItem"))

    async def _put_each(self, chunk: Sequence[Put], result: PublishResult) -> None:
        await self._singles.put_each(chunk, result, anyio.current_time() + self._timing.publish)

    async def _write_batch(self, chunk: Sequence[Put], result: PublishResult) -> None:
        """Store a chunk of events whose ids were never sent before."""
        retries = Retries(self._timing.publish, random=self._caller.random)
        left = {put.event.id: put for put in chunk}
        while left:
            try:
                unprocessed = await self._send(list(left.values()), result)
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
                    await self._singles.put_each(list(left.values()), result, retries.deadline)
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

    async def _send(self, puts: list[Put], result: PublishResult) -> list[str]:
        """Send one BatchWriteItem; the ids that came back unprocessed.

        Events of an abandoned batch are sent again. Wait past the deadline, so that the first request is unlikely to be
        still in flight.
        """
        table_name = self._caller.table_name
        for put in puts:
            # A write without a condition would replace a tombstone, and nobody would find the event.
            self._singles.begin(put, result, may_enter=False)
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


def _is_inserted(put: Put) -> bool:
    """Tell whether the first write of an event needs a condition, so that no BatchWriteItem may have it."""
    return put.event.id_number is not None or put.is_ordered
