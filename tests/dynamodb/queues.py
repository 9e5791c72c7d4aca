"""Events with an ordering key, stored as an emit stores them, and a look at their queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.claims import Claim
from dynamodb_outbox.dynamodb.items.codec import Item, encode_event
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, Queue, queue_id, read_queue
from dynamodb_outbox.outcome import Completed, Outcome
from dynamodb_outbox.port import Settled


@dataclass
class Line:
    """The events of one ordering key, in order."""

    client: Any
    outbox: DynamoDBOutbox
    key: str = "order-17"

    @property
    def queue_id(self) -> str:
        """The id of the queue."""
        return queue_id(self.key)

    def another(self, **options: Any) -> DynamoDBOutbox:
        """Make an outbox on the same table, with other options."""
        config = self.outbox._config
        same: dict[str, Any] = {
            "conditional_writes": config.conditional_writes,
            "shards": config.shards,
            "clock": self.outbox.options.clock,
        }
        return DynamoDBOutbox(self.client, table_name=config.table_name, **same | options)

    async def emit(self, *ids: str, queued: bool = True) -> list[Event]:
        """Store events, and append them to the queue one by one; without `queued`, only the queue has them."""
        events = [Event("order.paid", {"n": number}, id=each, ordering_key=self.key) for number, each in enumerate(ids)]
        for event in events:
            if queued:
                item, _ = encode_event(event, due_at=0, numbers="native")
                await self.client.put_item(TableName=self.outbox.table_name, Item=item)
            await self.append(event.id)
        return events

    async def append(self, event_id: str) -> None:
        """Append an id, as an emit does."""
        outbox = self.outbox
        new_queue, shards = NewQueue(now=outbox.options.clock()), outbox._config.placement
        append = Append(key=self.key, ids=(event_id,), new_queue=new_queue, shards=shards)
        queue = await self.queue()
        if queue is None or len(queue.ids) < WIDTH:
            await self.client.update_item(**append.append(outbox.table_name))
        elif not queue.head:
            await self.client.update_item(**append.split(outbox.table_name))
        else:
            await self.client.transact_write_items(TransactItems=append.spill(outbox.table_name, queue))

    async def item(self, item_id: str | None = None) -> Item:
        """Read an item, by default that of the queue; empty if there is none."""
        key = {"id": {"S": self.queue_id if item_id is None else item_id}}
        reply = await self.client.get_item(TableName=self.outbox.table_name, Key=key, ConsistentRead=True)
        item: Item = reply.get("Item", {})
        return item

    async def queue(self) -> Queue | None:
        """Read the queue; None if there is none."""
        item = await self.item()
        return read_queue(item) if item else None

    async def status(self, item_id: str | None = None) -> str | None:
        """Read a status, by default that of the queue."""
        return (await self.item(item_id)).get("status", {}).get("S")

    async def change(self, item_id: str | None = None, **attributes: Any) -> None:
        """Change attributes of an item as another program does; None removes one."""
        item = await self.item(item_id) | attributes
        item = {name: value for name, value in item.items() if value is not None}
        await self.client.put_item(TableName=self.outbox.table_name, Item=item)

    async def expire(self) -> None:
        """Let the lease of the queue end."""
        await self.change(gsiSortKey={"N": "1000"})

    async def make_due(self) -> None:
        """Make the queue PENDING, wherever it is."""
        shards = self.outbox._config.placement
        place: dict[str, Any] = {"statusShard": shards.key("PENDING", self.queue_id)} if shards.count > 1 else {}
        await self.change(status={"S": "PENDING"}, gsiSortKey={"N": "1000"}, **place)

    async def claim(self) -> Claim:
        """Claim the only due queue."""
        (claim,) = await self.outbox.claim(10)
        return claim

    async def settle(self, claim: Claim, outcome: Outcome | None = None, *, keep: bool = False) -> Settled:
        """Settle one claim."""
        (settled,) = await self.outbox.settle([(claim, outcome or Completed())], keep_keys=keep)
        return settled

    async def work_off(self, *, keep: bool = True) -> list[str]:
        """Complete every event of the key; return their ids in order."""
        ids: list[str] = []
        claims: Sequence[Claim] = await self.outbox.claim(10)
        while claims:
            ids += [claim.event.id for claim in claims]
            settled = await self.outbox.settle([(claim, Completed()) for claim in claims], keep_keys=keep)
            assert all(each is None or isinstance(each, Claim) for each in settled), settled
            claims = [each for each in settled if isinstance(each, Claim)] or await self.outbox.claim(10)
        return ids
