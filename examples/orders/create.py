"""Creates what the service and the consumer use, and prints the variables that they read.

    eval "$(python -m examples.orders.create shop)"

It is for trying the programs out. In production, a template creates these things: README.md lists them.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from typing import Any

from aiobotocore.session import get_session

from dynamodb_outbox import DynamoDBOutbox


async def create(prefix: str) -> dict[str, str]:
    """Create everything under names that begin with a prefix; return the variables of the programs."""
    session = get_session()
    async with (
        session.create_client("dynamodb") as dynamodb,
        session.create_client("sqs") as sqs,
        session.create_client("events") as events,
        DynamoDBOutbox.connect(table_name=f"{prefix}-outbox") as outbox,
    ):
        await outbox.create_table()
        for name in ("orders", "shipments"):
            await create_table(dynamodb, f"{prefix}-{name}")
        _, dead_letters = await create_queue(sqs, f"{prefix}-dead-letters.fifo", FifoQueue="true")
        redrive = json.dumps({"deadLetterTargetArn": dead_letters, "maxReceiveCount": 3})
        queue_url, _ = await create_queue(sqs, f"{prefix}-orders.fifo", FifoQueue="true", RedrivePolicy=redrive)
        await subscribe(events, sqs, bus=prefix, queue=f"{prefix}-audit")
    return {
        "OUTBOX_TABLE": f"{prefix}-outbox",
        "ORDERS_TABLE": f"{prefix}-orders",
        "SHIPMENTS_TABLE": f"{prefix}-shipments",
        "QUEUE_URL": queue_url,
        "EVENT_BUS": prefix,
    }


async def create_table(dynamodb: Any, name: str) -> None:
    await dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name)


async def create_queue(sqs: Any, name: str, **attributes: str) -> tuple[str, str]:
    """Create a queue; return its URL and ARN."""
    url: str = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
    reply = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, reply["Attributes"]["QueueArn"]


async def subscribe(events: Any, sqs: Any, *, bus: str, queue: str) -> None:
    """Create a bus that sends every event of the orders on to one more queue, as another team would have it."""
    await events.create_event_bus(Name=bus)
    url, arn = await create_queue(sqs, queue)
    pattern = json.dumps({"source": ["orders"]})
    rule = (await events.put_rule(Name=queue, EventBusName=bus, EventPattern=pattern))["RuleArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    await events.put_targets(Rule=queue, EventBusName=bus, Targets=[{"Id": "1", "Arn": arn}])


if __name__ == "__main__":
    for name, value in asyncio.run(create(*sys.argv[1:] or ["shop"])).items():
        print(f"export {name}={shlex.quote(value)}")
