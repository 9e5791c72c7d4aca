"""Storing new events: PutItem for one, BatchWriteItem for many.

BatchWriteItem takes no condition. It is used only for ids made here that were never sent before, and only
on the first try: whatever is ambiguous goes again as a conditional put, so that no repeat of ours can reset
an event that was already claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.client import Backoff, Caller, ConditionRefused, sent_once
from dynamodb_outbox.dynamodb.codec import Item, encode_event
from dynamodb_outbox.errors import (
    DuplicateEventError,
    OutboxError,
    StorageError,
    ThrottledError,
    UnavailableError,
)
from dynamodb_outbox.event import Event
from dynamodb_outbox.outbox import raise_unless_stored, refuse_repeated_ids

MAX_BATCH_ITEMS: Final = 25
MAX_BATCH_BYTES: Final = 900_000
"""A request may have 16 MB, but a body over 1 MiB holds up the event loop, as aiohttp warns."""
CONCURRENT_REQUESTS: Final = 8
PUBLISH_SECONDS: Final = 10.0
"""How long a publish is tried before it is reported to the caller as failed."""


@dataclass(frozen=True, slots=True)
class _Put:
    event: Event
    item: Item
    size: int
    unpublished: bool


class _Publication:
    """What became of the events of one publish."""

    def __init__(self) -> None:
        self.causes: dict[str, OutboxError] = {}
        self.given_up: StorageError | None = None
        """Why an event could not be stored until its deadline: those that still wait need not try."""

    def fail(self, puts: Iterable[_Put], error: OutboxError) -> None:
        """Note why events could not be stored."""
        self.causes.update({put.event.id: error for put in puts})
        if isinstance(error, (ThrottledError, UnavailableError)):
            self.given_up = error


class Publisher:
    """Stores new events as PENDING."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._chunks = anyio.CapacityLimiter(CONCURRENT_REQUESTS)
        self._puts = anyio.CapacityLimiter(CONCURRENT_REQUESTS)

    async def publish(self, events: Sequence[Event], *, due_at: float) -> None:
        """Store the events; what is refused, is refused before the first of them is sent."""
        refuse_repeated_ids(events)
        encoded = [encode_event(event, due_at=due_at) for event in events]
        # Only now, when every event is known to be storable, does an id cease to be unpublished.
        puts = [
            _Put(event, item, size, event.take_unpublished())
            for event, (item, size) in zip(events, encoded, strict=True)
        ]
        publication = _Publication()
        if len(puts) == 1:
            await self._put(puts[0], publication, anyio.current_time() + PUBLISH_SECONDS)
        else:
            async with anyio.create_task_group() as group:
                for chunk in _chunks([put for put in puts if put.unpublished]):
                    group.start_soon(self._write_batch, chunk, publication)
                for put in puts:
                    if not put.unpublished:
                        group.start_soon(self._put_in_turn, put, publication)
        raise_unless_stored(events, publication.causes)

    async def _put_in_turn(self, put: _Put, publication: _Publication, deadline: float | None = None) -> None:
        async with self._puts:
            if publication.given_up is not None:
                publication.fail([put], publication.given_up)
            else:
                await self._put(put, publication, deadline or anyio.current_time() + PUBLISH_SECONDS)

    async def _put(self, put: _Put, publication: _Publication, deadline: float) -> None:
        """Store one event unless its id is taken."""
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
            ours = put.unpublished or (refused.repeated and _is_same_event(put.item, refused.item))
            if not ours:
                publication.fail([put], DuplicateEventError(event_id=put.event.id))
        except StorageError as error:
            publication.fail([put], error)

    async def _write_batch(self, chunk: list[_Put], publication: _Publication) -> None:
        """Store a chunk of events that nobody can have stored before."""
        async with self._chunks:
            if publication.given_up is not None:
                publication.fail(chunk, publication.given_up)
                return
            deadline = anyio.current_time() + PUBLISH_SECONDS
            backoff = Backoff(self._caller.random)
            left = {put.event.id: put for put in chunk}
            while left:
                try:
                    unprocessed = await self._send(list(left.values()), deadline)
                    cause: StorageError = _unprocessed(backoff)
                except (ThrottledError, UnavailableError) as error:
                    if isinstance(error, UnavailableError) and error.maybe_applied:
                        async with anyio.create_task_group() as group:
                            for put in left.values():
                                group.start_soon(self._put_in_turn, put, publication, deadline)
                        return
                    unprocessed, cause = list(left), error
                except StorageError as error:
                    publication.fail(left.values(), error)
                    return
                left = {event_id: left[event_id] for event_id in unprocessed}
                delay = backoff.next_delay() if left else 0.0
                if left and anyio.current_time() + delay >= deadline:
                    publication.fail(left.values(), cause)
                    return
                await anyio.sleep(delay)

    async def _send(self, puts: list[_Put], deadline: float) -> list[str]:
        """Send one BatchWriteItem; the ids that came back unprocessed."""
        table_name = self._caller.table_name
        requests = [{"PutRequest": {"Item": put.item}} for put in puts]
        with sent_once(self._caller.client, "BatchWriteItem"):
            reply = await self._caller.call(
                "batch_write_item",
                within=deadline - anyio.current_time(),
                once=True,
                RequestItems={table_name: requests},
            )
        unprocessed = reply.get("UnprocessedItems", {}).get(table_name, [])
        return [request["PutRequest"]["Item"]["id"]["S"] for request in unprocessed]


def _unprocessed(backoff: Backoff) -> ThrottledError:
    return ThrottledError(
        operation="BatchWriteItem", attempts=backoff.attempts + 1, reason="events came back unprocessed"
    )


def _is_same_event(sent: Item, stored: object) -> bool:
    """Tell whether the stored item is the one that we sent; what delivery changes since then does not count."""
    if not isinstance(stored, dict):
        return False
    return all(stored.get(name) == sent[name] for name in ("id", "type", "occurredAt"))


def _chunks(puts: Sequence[_Put]) -> list[list[_Put]]:
    chunks: list[list[_Put]] = []
    size = 0
    for put in puts:
        if not chunks or len(chunks[-1]) == MAX_BATCH_ITEMS or size + put.size > MAX_BATCH_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(put)
        size += put.size
    return chunks
