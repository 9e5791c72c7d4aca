"""The shop of the drill: the events that it has emitted, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from dynamodb_outbox import DynamoDBOutbox, Event, EventState, OutboxEventBus, StoredEvent
from examples.on_call_drill.service import HANDLERS, REGION, RETENTION

MINUTE: Final = 60.0
PATIENCE_SECONDS: Final = 120.0


@dataclass
class Clock:
    """A clock that can be set back: what happens now has then happened some time ago."""

    behind: float = 0.0

    def __call__(self) -> float:
        """Return the time in epoch seconds."""
        return time.time() - self.behind


@dataclass
class Shop:
    """Emits events, as of some minutes ago, and looks them up."""

    client: Any
    table: str
    shards: int
    size: int
    """How many events of a type are emitted."""
    clock: Clock = field(default_factory=Clock)
    outbox: DynamoDBOutbox = field(init=False)
    emitted: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The ids of the events of each type."""

    def __post_init__(self) -> None:
        self.outbox = DynamoDBOutbox(self.client, table_name=self.table, shards=self.shards, clock=self.clock)

    async def table_exists(self) -> bool:
        """Tell whether there is a table of the name."""
        try:
            await self.client.describe_table(TableName=self.table)
        except self.client.exceptions.ResourceNotFoundException:
            return False
        return True

    async def create_table(self, *, time_to_live: bool) -> None:
        """Create the table of the outbox. With a retention, the library turns its time to live on."""
        retention = RETENTION if time_to_live else None
        outbox = DynamoDBOutbox(self.client, table_name=self.table, shards=self.shards, retention=retention)
        await outbox.create_table()

    async def emit(self, event_type: str, *, minutes_ago: float, count: int | None = None) -> None:
        """Emit events of a type, all of them some minutes ago."""
        self.clock.behind = minutes_ago * MINUTE
        then = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        noun = event_type.partition(".")[0]
        ids = [f"{noun}-{1_000 + number}" for number in range(count or self.size)]
        bus = OutboxEventBus(self.outbox)
        await bus.emit_many([Event(event_type, {"order": key}, id=key, occurred_at=then) for key in ids])
        self.emitted[event_type] = ids
        self.clock.behind = 0.0

    async def fail(self, event_type: str, *, minutes_ago: float, error: Exception) -> None:
        """Let the service of some minutes ago fail at the events of a type, until they are dead letters."""

        async def handler(event: Event) -> None:
            raise error

        self.clock.behind = minutes_ago * MINUTE
        # Each error is stored with its event. The log of the drill needs none of them.
        bus = OutboxEventBus(self.outbox)
        bus.on(event_type, handler, name=HANDLERS[event_type], max_retries=0)
        while await bus.run_once():
            pass
        self.clock.behind = 0.0

    async def put_foreign_rows(self, ids: list[str]) -> None:
        """Store rows as another program does, that does not know the format of the outbox."""
        for number, row_id in enumerate(ids):
            row = {
                "id": {"S": row_id},
                "type": {"S": "stock.counted"},
                "payload": {"S": f"<stock place='{number}'/>"},
                "occurredAt": {"S": datetime.now(UTC).isoformat()},
                "status": {"S": "PENDING"},
                "retryCount": {"N": "0"},
                "gsiSortKey": {"N": str(round((time.time() - 5 * MINUTE) * 1000))},
            }
            await self.client.put_item(TableName=self.table, Item=row)
        self.emitted["stock.counted"] = ids

    async def count(self, event_type: str, *states: EventState) -> int:
        """Count the emitted events of a type that are in one of the states."""
        found = await self.events(event_type)
        return sum(event is not None and event.state in states for event in found)

    async def events(self, event_type: str) -> list[StoredEvent | None]:
        """Read the emitted events of a type; None for one that was deleted."""
        return [await self.outbox.get(key) for key in self.emitted[event_type]]

    async def has_time_to_live(self) -> bool:
        """Tell whether DynamoDB deletes the events whose retention is over."""
        found = (await self.client.describe_time_to_live(TableName=self.table))["TimeToLiveDescription"]
        is_on = found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        return is_on and found.get("AttributeName") == "expireAt"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is the case. Raises `TimeoutError` after two minutes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - another process makes it the case
            await asyncio.sleep(0.2)


@asynccontextmanager
async def open_client(endpoint: str) -> AsyncGenerator[Any]:
    """Open a client for DynamoDB Local."""
    config = AioConfig(retries={"mode": "standard", "total_max_attempts": 3})
    async with get_session().create_client(
        "dynamodb", region_name=REGION, endpoint_url=endpoint, config=config
    ) as client:
        yield client
