"""`Inspector`: reads facts about the table of an outbox, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import anyio

from dynamodb_outbox.dynamodb.delivering.announcements import WORKERS_ID, announced_workers
from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.inspecting.clock import Exchange, skew_of
from dynamodb_outbox.dynamodb.inspecting.description import read_table
from dynamodb_outbox.dynamodb.inspecting.facts import (
    Connection,
    Permission,
    Scanned,
    SeenWindow,
    SeenWorker,
    ShardLag,
    TableFacts,
    TimeToLive,
)
from dynamodb_outbox.dynamodb.inspecting.permissions import DryRun
from dynamodb_outbox.dynamodb.inspecting.scan import scan
from dynamodb_outbox.dynamodb.items.codec import seconds
from dynamodb_outbox.dynamodb.schema.shards import MAX_SHARDS, SHARD_ATTRIBUTE, Shards, shard_key
from dynamodb_outbox.dynamodb.schema.table import SHARDED_INDEX
from dynamodb_outbox.dynamodb.windows.item import WINDOW_IDS
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.outbox import DynamoDBOutbox

CALL_SECONDS: Final = 8.0
"""How long one call is tried, unless the inspector is made with another time."""
CALLS: Final = 5
"""How many calls measure the latency and the clock."""
MAX_WINDOWS: Final = 100
FEWEST_SHARDS: Final = 16
"""At least this many shards are read, also if the options name fewer."""
EXAMPLES: Final = 10
"""How many events of a shard are read to find the number of shards."""
MAX_QUERIES: Final = 4
"""How many shards are read at once."""


class Inspector:
    """Reads the facts that the doctor judges. Every method raises `StorageError` if DynamoDB refuses its calls."""

    def __init__(
        self, outbox: DynamoDBOutbox, *, clock: Callable[[], float] = time.time, call_seconds: float = CALL_SECONDS
    ) -> None:
        # The inspector is a part of the adapter, and uses its parts.
        self._config = outbox._config  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._caller = outbox._parts.caller  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._clock = clock
        self._within = call_seconds
        self._index = StatusIndex(
            self._caller, self._config.placement, former_index_name=self._config.former_index_name
        )

    async def table(self) -> TableFacts:
        """Describe the table, and compare it with the schema."""
        response = await self._caller.call(
            "describe_table", within=self._within, once=True, TableName=self._caller.table_name
        )
        return read_table(response["Table"], self._config.schema)

    async def time_to_live(self) -> TimeToLive:
        """Describe the time to live of the table."""
        response = await self._caller.call(
            "describe_time_to_live", within=self._within, once=True, TableName=self._caller.table_name
        )
        found: Mapping[str, Any] = response["TimeToLiveDescription"]
        return TimeToLive(status=found.get("TimeToLiveStatus", "DISABLED"), attribute=found.get("AttributeName"))

    async def has_point_in_time_recovery(self) -> bool:
        """Tell whether the table can be restored to any second of the last days."""
        response = await self._caller.call(
            "describe_continuous_backups", within=self._within, once=True, TableName=self._caller.table_name
        )
        found = response["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return bool(found.get("PointInTimeRecoveryStatus") == "ENABLED")

    async def connection(self) -> Connection:
        """Make some small reads, and measure how long they take and what time DynamoDB has."""
        exchanges: list[Exchange] = []
        for _ in range(CALLS):
            sent, began = self._clock(), time.perf_counter()
            response = await self._read_workers()
            date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
            exchanges.append(Exchange(sent=sent, seconds=time.perf_counter() - began, date=date))
        meta = self._caller.client.meta
        return Connection(
            endpoint=str(meta.endpoint_url),
            region=str(meta.region_name),
            latency=median(each.seconds for each in exchanges),
            skew=skew_of(exchanges),
        )

    async def workers(self) -> tuple[SeenWorker, ...]:
        """List the workers that have announced themselves and have not stopped; some may have been killed."""
        response = await self._read_workers()
        (item,) = response["Responses"].get(self._caller.table_name, []) or [{}]
        seen = [
            SeenWorker(name=name, announced_at=datetime.fromtimestamp(at, UTC))
            for name, at in announced_workers(item).items()
        ]
        return tuple(sorted(seen, key=lambda worker: worker.announced_at, reverse=True))

    async def _read_workers(self) -> Mapping[str, Any]:
        keys = {"Keys": [{"id": {"S": WORKERS_ID}}], "ConsistentRead": True}
        response: Mapping[str, Any] = await self._caller.call(
            "batch_get_item", within=self._within, once=True, RequestItems={self._caller.table_name: keys}
        )
        return response

    async def windows(self) -> tuple[SeenWindow, ...]:
        """List the windows of workers, the lease that ends first at the beginning."""
        found: list[SeenWindow] = []
        for partition in self._index.windows():
            async for rows in self._index.keys(partition, within=self._within, page=MAX_WINDOWS):
                found += map(_window_of, rows)
                break
        return tuple(found)

    async def permissions(self, actions: Sequence[str], *, existing_id: str | None) -> tuple[Permission, ...]:
        """Try each action in a way that changes nothing."""
        dry_run = DryRun(self._caller, self._index.partitions(EventStatus.PENDING)[0], existing_id=existing_id)
        found: dict[str, Permission] = {}

        async def attempt(action: str) -> None:
            found[action] = await dry_run.attempt(action)

        async with anyio.create_task_group() as group:
            for action in actions:
                group.start_soon(attempt, action)
        return tuple(found[action] for action in actions)

    async def shard_lags(self) -> tuple[ShardLag, ...]:
        """Read the oldest due event of each shard, and of the same number of shards beyond them."""
        count = self._config.shards
        if count == 1:
            return ()
        limit, found, errors = anyio.CapacityLimiter(MAX_QUERIES), list[ShardLag](), list[StorageError]()

        async def read(shard: int) -> None:
            async with limit:
                try:
                    due_at = await self._oldest_due(shard)
                except StorageError as error:
                    errors.append(error)
                    return
                if due_at is not None:
                    found.append(ShardLag(shard=shard, due_at=due_at))

        async with anyio.create_task_group() as group:
            for shard in range(min(max(2 * count, FEWEST_SHARDS), MAX_SHARDS)):
                group.start_soon(read, shard)
        if errors:
            raise errors[0]
        return tuple(sorted(found, key=lambda lag: lag.shard))

    async def emitted_shards(self) -> int | None:
        """Find the number of shards by which the waiting events were stored; None if it does not follow from them.

        It is for an outbox whose options do not say it. The shard of an event follows from its id and this number.
        """
        found: list[tuple[str, str]] = []
        for key in (shard_key(EventStatus.PENDING.value, shard) for shard in range(FEWEST_SHARDS)):
            response = await self._caller.call(
                "query",
                within=self._within,
                TableName=self._caller.table_name,
                IndexName=SHARDED_INDEX,
                KeyConditionExpression="#shard = :shard",
                ExpressionAttributeNames={"#shard": SHARD_ATTRIBUTE},
                ExpressionAttributeValues={":shard": {"S": key}},
                ProjectionExpression="id",
                Limit=EXAMPLES,
            )
            found += ((row["id"]["S"], key) for row in response["Items"])
        fitting = [count for count in range(2, MAX_SHARDS + 1) if all(_fits(count, *row) for row in found)]
        return fitting[0] if len(fitting) == 1 else None

    async def _oldest_due(self, shard: int) -> datetime | None:
        response = await self._caller.call(
            "query",
            within=self._within,
            TableName=self._caller.table_name,
            IndexName=self._config.index_name,
            KeyConditionExpression="#shard = :shard AND gsiSortKey <= :now",
            ExpressionAttributeNames={"#shard": SHARD_ATTRIBUTE},
            ExpressionAttributeValues={
                ":shard": {"S": shard_key(EventStatus.PENDING.value, shard)},
                ":now": {"N": str(round(self._clock() * 1000))},
            },
            ProjectionExpression="id, gsiSortKey",
            Limit=1,
        )
        rows = response["Items"]
        return _time(seconds(rows[0]["gsiSortKey"])) if rows else None

    async def scan(self, limit: int) -> Scanned:
        """Scan up to `limit` items for events that no worker can find. It needs dynamodb:Scan."""
        return await scan(self._caller, shards=self._config.shards, limit=limit, now=self._clock())


def _fits(shards: int, event_id: str, key: str) -> bool:
    return Shards(shards).key(EventStatus.PENDING.value, event_id) == {"S": key}


def _window_of(row: Mapping[str, Any]) -> SeenWindow:
    item_id: str = row["id"]["S"]
    region = item_id.removeprefix(WINDOW_IDS).rpartition("/")[0]
    return SeenWindow(id=item_id, region=region, lease_expires_at=_time(seconds(row["gsiSortKey"])))


def _time(at: float) -> datetime:
    """Make a time; the first year for a number that no datetime can hold."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
