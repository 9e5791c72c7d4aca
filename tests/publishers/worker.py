"""A process that publishes: `python -m tests.publishers.worker DYNAMODB_ENDPOINT TABLE SQS_ENDPOINT QUEUE_URL`."""

from __future__ import annotations

import asyncio
import sys

from dynamodb_outbox import DynamoDBOutbox, ExponentialBackoff, OutboxEventBus
from dynamodb_outbox.publishers import SqsPublisher


async def main(endpoint: str, table_name: str, sqs_endpoint: str, queue_url: str) -> None:
    async with (
        DynamoDBOutbox.connect(
            table_name=table_name,
            region_name="us-east-1",
            endpoint_url=endpoint,
            processing_timeout=2.0,
            poll_interval=0.1,
        ) as outbox,
        SqsPublisher(queue_url=queue_url, region_name="us-east-1", endpoint_url=sqs_endpoint) as publisher,
    ):
        bus = OutboxEventBus(outbox)
        bus.on("order.placed", publisher, max_retries=100, backoff=ExponentialBackoff(base=0.05))
        async with bus:
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
