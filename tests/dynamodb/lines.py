"""Lines of events with an ordering key, written into a table as emits and workers do, a write at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event
from dynamodb_outbox.dynamodb.items.codec import encode_event, millis
from dynamodb_outbox.dynamodb.ordering.appending import Append, NewQueue
from dynamodb_outbox.dynamodb.ordering.queue import WIDTH, Queue, id_list, queue_id, read_queue
from dynamodb_outbox.observations import Observation
from tests.fakes import Clock


@dataclass
class Line:
    """The line of one key in a table."""

    client: Any
    outbox: DynamoDBOutbox
    clock: Clock
    key: str = "order-17"
    seen: list[Observation] = field(default_factory=list)

    @property
    def table(self) -> str:
        return self.outbox.table_name

    async def store(self, *ids: str, key: str | None = None, payload: Any = None) -> None:
        """Put events that no queue lists."""
        events = [Event("order.paid", payload, id=each, ordering_key=key or self.key) for each in ids]
        items = [encode_event(event, due_at=self.clock(), numbers="native")[0] for event in events]
        for start in range(0, len(items), 25):
            puts = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
            await self.client.batch_write_item(RequestItems={self.table: puts})

    async def append(self, *ids: str, key: str | None = None) -> None:
        """Append ids to the queue, in the form that fits."""
        shards = self.outbox._config.placement
        append = Append(key=key or self.key, ids=ids, new_queue=NewQueue(now=self.clock()), shards=shards)
        queue = await self.queue(key)
        if queue is None or len(queue.ids) + len(ids) <= WIDTH:
            await self.client.update_item(**append.append(self.table))
        elif not queue.head:
            await self.client.update_item(**append.split(self.table))
        else:
            await self.client.transact_write_items(TransactItems=append.spill(self.table, queue))

    async def emit(self, *ids: str, key: str | None = None) -> None:
        """Put events, and append them, ten at a time."""
        await self.store(*ids, key=key)
        for start in range(0, len(ids), WIDTH):
            await self.append(*ids[start : start + WIDTH], key=key)

    async def queue(self, key: str | None = None) -> Queue | None:
        item = await self.item(queue_id(key or self.key))
        return read_queue(item) if item else None

    async def item(self, item_id: str) -> dict[str, Any]:
        reply = await self.client.get_item(TableName=self.table, Key={"id": {"S": item_id}}, ConsistentRead=True)
        return dict(reply.get("Item", {}))

    async def change(self, item_id: str, **attributes: Any) -> None:
        """Set attributes of an item, as another write would; None removes one."""
        kept = {name: value for name, value in attributes.items() if value is not None}
        gone = [name for name in attributes if name not in kept]
        if "status" in kept and self.outbox._config.placement.count > 1:
            kept["statusShard"] = self.outbox._config.placement.key(kept["status"]["S"], item_id)
        update = "SET " + ", ".join(f"#{name} = :{name}" for name in kept)
        if gone:
            update += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        await self.client.update_item(
            TableName=self.table,
            Key={"id": {"S": item_id}},
            UpdateExpression=update,
            ExpressionAttributeNames={f"#{name}": name for name in (*kept, *gone)},
            ExpressionAttributeValues={f":{name}": value for name, value in kept.items()},
        )

    async def be(self, status: str, *, key: str | None = None, at: float | None = None, **attributes: Any) -> None:
        """Give the queue a status, as the transitions of a worker do."""
        at = self.clock() if at is None else at
        await self.change(queue_id(key or self.key), status={"S": status}, gsiSortKey=millis(at), **attributes)

    async def block(self, *, key: str | None = None) -> None:
        """Let the event at the front fail."""
        await self.be(
            "FAILED",
            key=key,
            claimToken={"S": "t1"},
            retryCount={"N": "5"},
            lastError={"S": "mail: refused"},
            errorType={"S": "SMTPError"},
            errorHandler={"S": "mail"},
            handledBy={"SS": ["bill"]},
        )

    async def claim(self, *, key: str | None = None) -> None:
        """Let a worker claim the queue."""
        await self.be(
            "PROCESSING", key=key, at=self.clock() + 30, claimToken={"S": "t2"}, startedOn=millis(self.clock())
        )

    async def take_front(self, *, key: str | None = None) -> None:
        """Let a worker complete the event at the front of `ids`, and take it."""
        queue = await self.queue(key)
        assert queue is not None
        await self.change(queue.front, status={"S": "COMPLETED"}, gsiSortKey=None)
        await self.be("PENDING", key=key, ids=id_list(queue.ids[1:]))

    async def set_aside(self, event_id: str) -> None:
        """Let the event be FAILED, and in no queue."""
        await self.change(event_id, status={"S": "FAILED"}, gsiSortKey=millis(self.clock()), lastError={"S": "no"})

    async def state(self, event_id: str) -> str:
        """The status of the event's own item."""
        return str((await self.item(event_id))["status"]["S"])

    async def order(self, key: str | None = None) -> list[str]:
        """The ids of the line in order, also those in pages."""
        queue = await self.queue(key)
        if queue is None:
            return []
        pages = [await self.item(queue.page_id(number)) for number in range(queue.first_page, queue.last_page + 1)]
        listed = [each["S"] for page in (pages if queue.epoch else []) for each in page["ids"]["L"]]
        return [*queue.head, *listed, *queue.ids]


def line_of(client: Any, table_name: str, clock: Clock, **options: Any) -> Line:
    """Make the line of a key, whose outbox keeps what it notified its observers of."""
    seen: list[Observation] = []
    outbox = DynamoDBOutbox(client, table_name=table_name, clock=clock, observers=[seen.append], **options)
    return Line(client, outbox, clock, seen=seen)
