"""A table in memory and in a time of its own, whose calls may be held up, refused or answered otherwise."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.dynamodb.schema.table import TableSchema
from reliability.simulation.backend import Backend
from reliability.simulation.capacity import Gate
from reliability.simulation.client import Client
from reliability.simulation.values import Item
from tests.virtual_time import VirtualTime

INDEX: Final = "status-gsiSortKey-index"
SHARDED_INDEX: Final = "statusShard-gsiSortKey-index"
LATENCY: Final = 0.005

Parameters = dict[str, Any]
Rule = Callable[[str, Parameters], Awaitable[Any]]
"""Called with an operation and its parameters before they are carried out; may wait, or raise."""


async def calm(operation: str, parameters: Parameters) -> None:
    """Let a call pass."""


class SimulatedService:
    """A simulated backend with the outbox's table, and the client for it."""

    def __init__(self, time: VirtualTime, *, gate: Gate | None = None, shards: int = 1) -> None:
        self.time = time
        self.calls: Counter[str] = Counter()
        self.before: Rule = calm
        self.after: Rule = calm
        self.backend = Backend(clock=time.clock, gate=gate)
        key = {INDEX: "status"} if shards == 1 else {SHARDED_INDEX: "statusShard"}
        self.backend.create_table(TableSchema(table_name="events", indexes=key).definition())
        self.client: Any = Client(self.send)
        self._shards = shards

    def outbox(self, **options: Any) -> DynamoDBOutbox:
        """Make an outbox of this table."""
        defaults: dict[str, Any] = {"conditional_writes": "batch", "clock": self.time.clock, "shards": self._shards}
        return DynamoDBOutbox(self.client, table_name="events", **(defaults | options))

    def limit(self, gate: Gate) -> None:
        """Refuse the writes that a gate does not admit, from now on."""
        self.backend.gate = gate

    def item(self, event_id: str) -> Item:
        """Find an item as it is stored."""
        return self.backend.tables["events"].items[event_id]

    async def send(self, operation: str, parameters: Parameters) -> Any:
        """Answer a request, as a client's connection does."""
        self.calls[operation] += 1
        await asyncio.sleep(LATENCY)
        await self.before(operation, parameters)
        reply = self.backend.execute(operation, parameters)
        await self.after(operation, parameters)
        return reply
