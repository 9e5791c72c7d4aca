"""A process that makes transfers: `python -m tests.processes.transfers ENDPOINT TABLE HISTORY OFFSET OPTIONS`.

Its share of the transfers is given by their numbers; it makes those of which there is no event yet, then it ends.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from dynamodb_outbox import DuplicateEventError, DynamoDBOutbox, OutboxEventBus
from reliability.recording import Recorder
from tests.processes.program import arguments

ACCOUNTS = 10


def transfer_id(number: int) -> str:
    """The id of a transfer's event and of its record."""
    return f"transfer-{number}"


def account_id(number: int) -> str:
    """The id of an account's item."""
    return f"account-{number}"


async def undone(client: Any, table_name: str, share: list[int]) -> list[int]:
    """The numbers of which there is no event yet."""
    left: list[int] = []
    for number in share:
        reply = await client.get_item(
            TableName=table_name, Key={"id": {"S": transfer_id(number)}}, ConsistentRead=True, ProjectionExpression="id"
        )
        if "Item" not in reply:
            left.append(number)
    return left


async def transfer(bus: OutboxEventBus, accounts: str, number: int) -> None:
    """Make a transfer, once, however often it is tried."""
    choice = random.Random(number)
    debited, credited = choice.sample(range(ACCOUNTS), 2)
    amount = choice.randint(1, 20)
    made = {"from": account_id(debited), "to": account_id(credited), "amount": amount}
    async with bus.transaction() as tx:
        tx.update(
            TableName=accounts,
            Key={"id": account_id(debited)},
            UpdateExpression="SET balance = balance - :amount",
            ConditionExpression="balance >= :amount",
            ExpressionAttributeValues={":amount": amount},
        )
        tx.update(
            TableName=accounts,
            Key={"id": account_id(credited)},
            UpdateExpression="SET balance = balance + :amount",
            ExpressionAttributeValues={":amount": amount},
        )
        tx.put(TableName=accounts, Item={"id": transfer_id(number), **made})
        tx.emit("transfer.made", made, id=transfer_id(number))


async def main(endpoint: str, table_name: str, recorder: Recorder, *, accounts: str, share: list[int]) -> None:
    async with DynamoDBOutbox.connect(table_name=table_name, region_name="us-east-1", endpoint_url=endpoint) as outbox:
        bus = OutboxEventBus(recorder.around(outbox))
        left = await undone(outbox._client, table_name, share)
        recorder.note("ready")
        for number in left:
            try:
                await transfer(bus, accounts, number)
            except DuplicateEventError:
                recorder.note("duplicate", event_id=transfer_id(number))


if __name__ == "__main__":
    endpoint, table_name, recorder, options = arguments()
    asyncio.run(main(endpoint, table_name, recorder, **options))
