"""Queues of ordering keys as they are stored, and an emitter of events that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.claims import Claim, EmitClaim
from dynamodb_outbox.dynamodb.ordering.queue import page_ids, queue_id, read_queue
from dynamodb_outbox.outcome import Completed
from reliability.proxy import CUT_BEFORE, Proxy, Recorded, Reply, Rule, running_proxy
from tests.adapter_timing import with_timing
from tests.backends import open_client


@dataclass
class Shop:
    """An outbox behind a proxy, and a bus without a worker."""

    client: Any
    outbox: DynamoDBOutbox
    proxy: Proxy
    bus: OutboxEventBus

    async def item(self, item_id: str) -> dict[str, Any] | None:
        """Read an item as it is stored."""
        return await stored(self.client, self.outbox.table_name, item_id)

    async def status(self, event: Event) -> str | None:
        """Read the status of an event."""
        item = await self.item(event.id)
        return None if item is None else item["status"]["S"]

    async def line(self, key: str) -> list[str]:
        """Read the ids of a queue: its head, its pages and its ids."""
        return await line_of(self.client, self.outbox.table_name, key)

    @staticmethod
    def claiming(*events: Event) -> tuple[EmitClaim, list[Claim]]:
        """Reserve a claim for each event; the list has the claims that were made."""
        claims: list[Claim] = []
        return EmitClaim(tokens={event.id: token_hex(16) for event in events}, claimed=claims.append), claims

    async def delete(self, item_id: str) -> None:
        """Delete an item."""
        await self.client.delete_item(TableName=self.outbox.table_name, Key={"id": {"S": item_id}})


@asynccontextmanager
async def open_shop(endpoint: str, table_name: str, **options: Any) -> AsyncIterator[Shop]:
    """Create a table, and put a proxy in front of it."""
    async with running_proxy(endpoint) as proxy, open_client(proxy.endpoint) as client:
        outbox = patient(DynamoDBOutbox(client, table_name=table_name, **options))
        await outbox.create_table()
        proxy.requests.clear()
        yield Shop(client, outbox, proxy, OutboxEventBus(outbox))


def patient(outbox: DynamoDBOutbox) -> DynamoDBOutbox:
    """Let no emit fail, and none read its event, because the machine pauses."""
    times = {"publish": 100.0, "batch_response": 50.0, "transact": 100.0, "late_settle": 50.0}
    return with_timing(outbox, **times, claim_without_read=100.0, wait_for_emit=100.1, created_queues=50.0)


async def stored(client: Any, table_name: str, item_id: str) -> dict[str, Any] | None:
    """Read an item as it is stored."""
    response = await client.get_item(TableName=table_name, Key={"id": {"S": item_id}}, ConsistentRead=True)
    item: dict[str, Any] | None = response.get("Item")
    return item


async def line_of(client: Any, table_name: str, key: str) -> list[str]:
    """Read the ids of a queue: its head, its pages and its ids."""
    item = await stored(client, table_name, queue_id(key))
    if item is None:
        return []
    queue = read_queue(item)
    assert queue is not None
    ids = list(queue.head)
    for number in range(queue.first_page, queue.last_page + 1) if queue.pages else ():
        page = await stored(client, table_name, queue.page_id(number))
        assert page is not None
        ids += page_ids(page)
    assert all(len(part) <= 10 for part in (queue.head, queue.ids))
    return ids + list(queue.ids)


async def queue_of(shop: Shop, key: str = "order-17") -> tuple[str, str]:
    """The status and the token of a queue."""
    item = await shop.item(queue_id(key))
    assert item is not None
    return item["status"]["S"], item["claimToken"]["S"]


async def check_claim(shop: Shop, event: Event, claim: Claim) -> None:
    """See that the queue of an event has a claim, and that nobody else gets the event; then complete it."""
    assert (claim.event, claim.attempt, claim.queue is not None) == (event, 1, True)
    key = event.ordering_key or ""
    assert await queue_of(shop, key) == ("PROCESSING", claim.token)
    queue = await shop.item(queue_id(key))
    assert queue is not None
    assert int(queue["gsiSortKey"]["N"]) / 1000 == claim.lease_expires_at
    assert queue["claimedBy"]["S"]
    assert await shop.outbox.claim(10) == []
    assert await shop.outbox.settle([(claim, Completed())]) == [None]
    assert (await shop.status(event), await shop.line(key)) == ("COMPLETED", [])


def carried_out_late(client: Any, queue: dict[str, Any], *, puts: int) -> Rule:
    """Do not answer the first transaction, let its repeat find the queue full, and then carry the first one out.

    The transaction begins with `puts` items; the last one is the queue.
    """
    sent: list[Recorded] = []

    async def rule(request: Recorded) -> Any:
        if request.operation != "TransactWriteItems":
            return None
        sent.append(request)
        if len(sent) == 1:
            return CUT_BEFORE
        if len(sent) == 2:
            full = {"Code": "ConditionalCheckFailed", "Message": "no", "Item": queue}
            reasons = [*[{"Code": "None"}] * puts, full]
            return Reply(
                400, {"__type": "x#TransactionCanceledException", "message": "no", "CancellationReasons": reasons}
            )
        if len(sent) == 3:
            await client.transact_write_items(**sent[0].body)
        return None

    return rule


def orders(count: int, *, key: str = "order-17", **options: Any) -> list[Event]:
    """Make events of one key."""
    return [Event("order.paid", {"n": n}, ordering_key=key, **options) for n in range(count)]


def ids_of(events: list[Event]) -> list[str]:
    """List the ids of events."""
    return [event.id for event in events]


def step_of(request: Recorded) -> str | None:
    """Name the step of an emit that a request makes: put, append, split or spill."""
    update = request.body.get("UpdateExpression", "")
    if request.operation == "PutItem" or "INSERT" in str(request.body.get("Statements", "")):
        return "put"
    if request.operation == "TransactWriteItems" and "dynamodb-outbox-page/" in str(request.body):
        return "spill"
    if update.startswith("SET ids = list_append"):
        return "append"
    return "split" if update.startswith("SET head = ids") else None


def steps_of(proxy: Proxy) -> list[str]:
    """List the steps that were sent."""
    return [step for request in proxy.requests if (step := step_of(request)) is not None]


def nth_step(count: int, step: str, action: Any) -> Rule:
    """Do something to the n-th request of a step, counted from 1."""
    seen = 0

    def rule(request: Recorded) -> Any:
        nonlocal seen
        if step_of(request) != step:
            return None
        seen += 1
        return action if seen == count else None

    return rule
