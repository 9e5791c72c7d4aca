"""Dead letters: counting, listing and redriving events by status."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.dynamodb.conditional.transitions import REDRIVE, Write
from dynamodb_outbox.dynamodb.conditional.write_result import Applied, Refused
from dynamodb_outbox.dynamodb.conditional.writes import ConditionalWriter
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.items.codec import Item, decode_failed, millis
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.classify import ErrorKind
from dynamodb_outbox.dynamodb.transport.responses import items_of
from dynamodb_outbox.dynamodb.transport.retrying import Retries, deadline_error
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.port import OutboxOptions

REDRIVE_CHUNK: Final = 100
"""How many events are redriven before the next ones: four batches of statements."""


class DeadLetters:
    """Counts events by status, lists FAILED events, and makes them PENDING again."""

    def __init__(
        self, caller: Caller, index: StatusIndex, writer: ConditionalWriter, options: OutboxOptions, timing: Timing
    ) -> None:
        self._timing = timing
        self._caller = caller
        self._index = index
        self._writer = writer
        self._options = options

    async def count(self, status: EventStatus) -> int:
        """Count the rows of a status in the index."""
        return await self._index.count(status, within=self._timing.operator)

    async def failed_events(self, *, type: str | None, limit: int) -> list[FailedEvent]:
        """List dead letters, the latest first, as the table has them now."""
        found: list[FailedEvent] = []
        async for rows in self._index.latest_first(EventStatus.FAILED, within=self._timing.operator):
            items = await self._get([row["id"]["S"] for row in rows])
            for row in rows:
                item = items.get(row["id"]["S"])
                if item is None or item.get("status") != {"S": EventStatus.FAILED.value}:
                    continue
                if type is None or item.get("type") == {"S": type}:
                    found.append(decode_failed(item, numbers=self._options.numbers))
            if len(found) >= limit:
                break
        return found[:limit]

    async def redrive(self, ids: Sequence[str]) -> int:
        """Make FAILED events PENDING; return how many were FAILED. Raises `StorageError` if a write fails.

        The call may be repeated. An event counts, too, if DynamoDB did not answer its first write and then refused the
        second: the first write was applied.
        """
        redriven = 0
        unique = iter(dict.fromkeys(ids))
        while chunk := list(itertools.islice(unique, REDRIVE_CHUNK)):
            values = {"now": millis(self._options.clock()), "zero": {"N": "0"}}
            results = await self._writer.write(
                [Write(REDRIVE, event_id, values) for event_id in chunk], within=self._timing.operator
            )
            redriven += sum(isinstance(result, Applied) or result == Refused(repeated=True) for result in results)
            for result in results:
                if isinstance(result, StorageError):
                    raise result
        return redriven

    async def _get(self, ids: Sequence[str]) -> dict[str, Item]:
        """Read items by id, as they are in the table; the index lags and may hold keys only."""
        items: dict[str, Item] = {}
        keys = [{"id": {"S": event_id}} for event_id in ids]
        retries = Retries(self._timing.operator, random=self._caller.random)
        while keys:
            found, keys = await self._caller.call(
                "batch_get_item",
                within=self._timing.operator,
                read=items_of(self._caller.table_name),
                RequestItems={self._caller.table_name: {"Keys": keys, "ConsistentRead": True}},
            )
            items |= found
            if keys and not await retries.wait():
                raise deadline_error(
                    "batch_get_item",
                    ErrorKind.THROTTLED,
                    attempts=retries.attempts,
                    reason="keys came back unprocessed",
                )
        return items
