"""A table of accounts next to an outbox, for the tests of transactions."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, EventStatus, OutboxEventBus
from reliability.proxy import Proxy


@dataclass
class Bank:
    """A table of accounts beside the outbox, behind a proxy."""

    client: Any
    outbox: DynamoDBOutbox
    bus: OutboxEventBus
    proxy: Proxy
    table: str
    errors: list[Any]

    async def balance(self, account: str) -> int | None:
        reply = await self.client.get_item(TableName=self.table, Key={"id": {"S": account}}, ConsistentRead=True)
        return int(reply["Item"]["balance"]["N"]) if "Item" in reply else None

    async def pending(self) -> int:
        return await self.outbox.count(EventStatus.PENDING)


PRECISE = Decimal("0.1234567890123456789")
"""A number that no float equals: in the users' own tables it stays as it is."""


def debit(tx: Any, bank: Bank, amount: int, **options: Any) -> None:
    tx.update(
        TableName=bank.table,
        Key={"id": "ada"},
        UpdateExpression="SET balance = balance - :amount",
        ConditionExpression="balance >= :amount",
        ExpressionAttributeValues={":amount": amount},
        **options,
    )


async def handle_one(bank: Bank, handler: Any, **options: Any) -> int:
    bank.bus.on("account.debited", handler, **options)
    await bank.bus.emit("account.debited", {"n": 1}, id="parent")
    return await bank.bus.run_once()


async def status_of(bank: Bank, event_id: str) -> dict[str, Any]:
    reply = await bank.client.get_item(
        TableName=bank.outbox.table_name, Key={"id": {"S": event_id}}, ConsistentRead=True
    )
    item: dict[str, Any] = reply["Item"]
    return item
