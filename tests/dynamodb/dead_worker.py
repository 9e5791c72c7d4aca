"""What a worker leaves behind that dies with a window: its window item, and events that are in no index."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_bytes, token_hex
from typing import Any

from dynamodb_outbox import Event
from dynamodb_outbox.dynamodb.items.codec import encode_claimed, encode_event, millis
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.dynamodb.windows.item import new_window, window_id
from dynamodb_outbox.event_ids import numbered_id
from tests.fakes import Clock

REGION = "us-east-1"
LEASE = 30.0
DEAD = "host/7/dead00"
"""The name of the dead worker."""


@dataclass
class DeadWorker:
    """A worker that has died with a window. Its ids are those of the numbers from `start` up to `end`."""

    client: Any
    table: str
    clock: Clock
    shards: Shards = field(default_factory=lambda: Shards(1))
    start: int = 200
    end: int = 240
    region: str = REGION
    seed: bytes = field(default_factory=lambda: token_bytes(16))
    name: str = field(default_factory=lambda: token_hex(8))

    @property
    def window_id(self) -> str:
        return window_id(self.name, region=self.region)

    def id_of(self, number: int) -> str:
        return numbered_id(self.seed, number)

    @property
    def ids(self) -> list[str]:
        return [self.id_of(number) for number in range(self.start, self.end)]

    async def store_window(self, *, ended: float = 1.0, **changes: Any) -> dict[str, Any]:
        """Store the window, whose lease ended some seconds ago."""
        item = new_window(
            self.window_id,
            token="worker",
            seed=self.seed,
            start=self.start,
            end=self.end,
            now=self.clock() - LEASE,
            deadline=self.clock() - ended,
            shards=self.shards,
        )
        item = without_none(item | changes)
        await self.client.put_item(TableName=self.table, Item=item)
        return item

    def unlisted(self, number: int, **changes: Any) -> dict[str, Any]:
        """Make the item of an event of the window, as it is stored when it is emitted."""
        event = Event("order.placed", {"n": number}, id=self.id_of(number))
        item, _ = encode_event(event, due_at=self.clock(), numbers="native")
        item = encode_claimed(item, token=f"token-{number}", worker=DEAD, now=self.clock() - LEASE, lease_expires_at=0)
        del item["gsiSortKey"]
        return without_none({**item, "window": {"S": self.name}, **changes})

    def listed(self, number: int, status: str, **changes: Any) -> dict[str, Any]:
        """Make the item of an event that has the id of a number, and is in the index."""
        item = self.unlisted(number, status={"S": status}, gsiSortKey=millis(self.clock() + 5), window=None)
        return without_none(self.shards.placed(item) | changes)

    async def put(self, item: dict[str, Any]) -> str:
        """Store an item unless its id has one, as an emit does; return its id."""
        await self.client.put_item(TableName=self.table, Item=item, ConditionExpression="attribute_not_exists(id)")
        return str(item["id"]["S"])

    async def stored(self, item_id: str) -> dict[str, Any]:
        """Read an item; empty if there is none."""
        response = await self.client.get_item(TableName=self.table, Key={"id": {"S": item_id}}, ConsistentRead=True)
        return dict(response.get("Item", {}))

    async def statuses(self) -> dict[int, str]:
        """Read the status of every number that has an item."""
        pages = [await self.stored(event_id) for event_id in self.ids]
        return {
            number: item["status"]["S"] for number, item in zip(range(self.start, self.end), pages, strict=True) if item
        }

    async def is_closed(self) -> bool:
        """Tell whether the window is closed: it is kept for a day, and in no index."""
        item = await self.stored(self.window_id)
        assert item["status"]["S"] in {"WINDOW", "VOID"}
        if item["status"]["S"] == "WINDOW":
            return False
        assert {"gsiSortKey", SHARD_ATTRIBUTE}.isdisjoint(item)
        assert int(item["expireAt"]["N"]) >= self.clock() + 86_000
        return True


def without_none(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value is not None}


class CrashError(BaseException):
    """The process dies."""


class DyingClient:
    """A client whose process dies with its n-th call: before the call is sent, or before its response comes."""

    def __init__(self, client: Any, at: int, *, is_sent: bool) -> None:
        self._client = client
        self._calls_left = at
        self._is_sent = is_sent
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name.startswith("_") or name in {"meta", "exceptions"}:
            return attribute

        async def call(**params: Any) -> Any:
            self._calls_left -= 1
            if self._calls_left == 0 and self._is_sent:
                await attribute(**params)
            if self._calls_left <= 0:
                self.is_dead = True
                raise CrashError
            return await attribute(**params)

        return call
