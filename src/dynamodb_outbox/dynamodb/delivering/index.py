"""Queries of the status index. No other module knows its keys. Rows may be stale: the index lags behind the table."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynamodb_outbox.dynamodb.items.codec import Item, millis
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards, shard_key
from dynamodb_outbox.dynamodb.schema.table import PARTITION_KEY, SORT_KEY, STATUS_KEY
from dynamodb_outbox.dynamodb.timing import Timing
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.transport.read_units import ReadUnits
from dynamodb_outbox.dynamodb.transport.responses import read_count, read_rows
from dynamodb_outbox.dynamodb.windows.item import WINDOW, window_partition
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.port import OutboxOptions

DEAD_LETTERS_PAGE: Final = 100
"""How many dead letters are read at once: BatchGetItem takes 100 keys."""
KEYS: Final = f"{PARTITION_KEY}, {SORT_KEY}"
"""The attributes of a row that are read. Every index has them, and a claim returns the item as it is in the table."""


def poll_timeout(options: OutboxOptions, timing: Timing) -> float:
    """Return how long one call of a poll is tried."""
    return min(timing.poll, options.processing_timeout / 3)


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows of an index under one value of its partition key. One query reads one partition."""

    index_name: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a partition: the rows whose sort key compares with `bound` as `sign` says, from the row `after` on.

    Without a sign, all rows. `bound` is a sort key as DynamoDB's text of a number.
    """

    sign: str = ""
    bound: str = ""
    after: Item | None = None
    latest_first: bool = False


class StatusIndex:
    """Queries of the events by status, in the order of their sort key.

    While a table is moved to shards, the events are also found in its former index, keyed by the status alone.
    """

    def __init__(self, caller: Caller, shards: Shards, *, former_index_name: str | None) -> None:
        self._caller = caller
        self._shards = shards
        self._former_index_name = former_index_name

    def partitions(self, status: EventStatus) -> Sequence[Partition]:
        """List the partitions with events of a status; during a move to shards, some events are in two of them."""
        if self._shards.count == 1:
            return (Partition(self._caller.index_name, STATUS_KEY, status.value),)
        sharded = [
            Partition(self._caller.index_name, SHARD_ATTRIBUTE, shard_key(status.value, shard))
            for shard in range(self._shards.count)
        ]
        return sharded if self._former_index_name is None else [*sharded, *self.complete(status)]

    def complete(self, status: EventStatus) -> Sequence[Partition]:
        """List partitions that have every event of a status once. A former index, if there is one, has all events."""
        if self._former_index_name is None:
            return self.partitions(status)
        return (Partition(self._former_index_name, STATUS_KEY, status.value),)

    def windows(self) -> Sequence[Partition]:
        """List the partitions that have every window once; see `complete`."""
        if self._former_index_name is not None:
            return (Partition(self._former_index_name, STATUS_KEY, WINDOW),)
        attribute = STATUS_KEY if self._shards.count == 1 else SHARD_ATTRIBUTE
        return (Partition(self._caller.index_name, attribute, window_partition(self._shards)),)

    async def keys(
        self, partition: Partition, *, within: float, page: int, up_to: float | None = None
    ) -> AsyncGenerator[list[Item]]:
        """Read the keys of rows, the lowest sort key first, `page` rows at a time; see `pages`."""
        params = {"Limit": page, "ProjectionExpression": KEYS}
        async for response in self.pages(partition, within=within, up_to=up_to, params=params):
            yield response["Items"]

    async def keys_after(
        self, partition: Partition, *, time: float, within: float, page: int
    ) -> AsyncGenerator[list[Item]]:
        """Read the keys of rows whose sort key is later than a time in epoch seconds, the latest first."""
        params = {"ScanIndexForward": False, "ProjectionExpression": KEYS, "Limit": page}
        async for response in self.pages(partition, within=within, params=params):
            later = [row for row in response["Items"] if float(row["gsiSortKey"]["N"]) > time * 1000]
            yield later
            if len(later) < len(response["Items"]):
                return

    async def pages(
        self, partition: Partition, *, within: float, up_to: float | None = None, params: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any]]:
        """Read rows page by page. With `up_to` (epoch seconds), read only rows with a sort key up to that time."""
        condition = "#status = :status"
        values = {":status": {"S": partition.value}}
        if up_to is not None:
            condition += " AND gsiSortKey <= :until"
            values[":until"] = millis(up_to)
        start: dict[str, Any] = {}
        while True:
            response = await self._caller.call(
                "query",
                within=within,
                read=read_count if params.get("Select") == "COUNT" else read_rows,
                TableName=self._caller.table_name,
                IndexName=partition.index_name,
                KeyConditionExpression=condition,
                ExpressionAttributeNames={"#status": partition.attribute},
                ExpressionAttributeValues=values,
                **params,
                **start,
            )
            yield response
            last = response.get("LastEvaluatedKey")
            # A page that ends where it started would be read for ever.
            if not last or start == {"ExclusiveStartKey": last}:
                return
            start = {"ExclusiveStartKey": last}

    async def page(
        self, partition: Partition, part: Part, *, limit: int, within: float, units: ReadUnits
    ) -> tuple[list[Item], bool]:
        """Read the keys of up to `limit` rows; return them, and whether more may follow. Add the cost to `units`.

        DynamoDB reads 1 MB of rows at most, so a page may end early.
        """
        values = {":status": {"S": partition.value}}
        condition = "#status = :status"
        if part.sign:
            condition += f" AND gsiSortKey {part.sign} :bound"
            values[":bound"] = {"N": part.bound}
        start: dict[str, Any] = {}
        if part.after is not None:
            start = {"ExclusiveStartKey": {**part.after, partition.attribute: values[":status"]}}
        response = await self._caller.call(
            "query",
            within=within,
            read=read_rows,
            TableName=self._caller.table_name,
            IndexName=partition.index_name,
            KeyConditionExpression=condition,
            ExpressionAttributeNames={"#status": partition.attribute},
            ExpressionAttributeValues=values,
            ProjectionExpression=KEYS,
            ScanIndexForward=not part.latest_first,
            Limit=limit,
            ReturnConsumedCapacity="TOTAL",
            **start,
        )
        units.add(response)
        return response["Items"], bool(response.get("LastEvaluatedKey"))

    async def count(self, status: EventStatus, *, within: float) -> int:
        """Count the rows of a status, each event once."""
        total = 0
        for partition in self.complete(status):
            async for page in self.pages(partition, within=within, params={"Select": "COUNT"}):
                total += page["Count"]
        return total

    async def latest_first(self, status: EventStatus, *, within: float) -> AsyncIterator[list[Item]]:
        """Read the keys of a status from the highest sort key down, up to a hundred at a time."""
        params: dict[str, Any] = {
            "ScanIndexForward": False,
            "ProjectionExpression": f"{PARTITION_KEY}, {SORT_KEY}",
            "Limit": DEAD_LETTERS_PAGE,
        }
        heads: list[tuple[float, int, list[Item]]] = []
        streams = [self.pages(partition, within=within, params=params) for partition in self.complete(status)]

        async def read_on(stream: int) -> None:
            async for page in streams[stream]:
                if page["Items"]:
                    heapq.heappush(heads, (_latest(page["Items"]), stream, page["Items"]))
                    return

        for stream in range(len(streams)):
            await read_on(stream)
        rows: list[Item] = []
        while heads:
            _, stream, page = heapq.heappop(heads)
            rows.append(page.pop(0))
            if page:
                heapq.heappush(heads, (_latest(page), stream, page))
            else:
                await read_on(stream)
            if len(rows) == DEAD_LETTERS_PAGE:
                yield rows
                rows = []
        if rows:
            yield rows


def _latest(page: list[Item]) -> float:
    return -float(page[0]["gsiSortKey"]["N"])
