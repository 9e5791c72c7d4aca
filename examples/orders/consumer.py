"""Ships orders: a worker of the queue that the service fills. Whatever SQS repeats, an event counts once.

README.md says how to run it. SIGTERM and Ctrl-C let it finish the messages in hand.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiobotocore.session import get_session

logger = logging.getLogger("orders")
WAIT_SECONDS: Final = int(os.environ.get("WAIT_SECONDS", "10"))
"""How long a request waits for messages, and so how long a stop takes. SQS bills each request, the empty ones too."""
CONCURRENCY: Final = int(os.environ.get("CONCURRENCY", "10"))
"""How many messages are handled at a time, each of another order."""
EFFECTS: Final = {
    "order.placed": ("reserved", 0),
    "order.paid": ("shipped", 1),
    "order.cancelled": ("cancelled", 0),
}
"""What an event makes of a shipment: its status, and how many parcels leave. Other types do not concern this worker."""


@dataclass(frozen=True, kw_only=True)
class Consumer:
    sqs: Any
    queue_url: str
    dynamodb: Any
    table_name: str

    async def run(self, stop: asyncio.Event) -> None:
        """Handle one message after the other until the stop is set, and the one in hand then."""
        while not stop.is_set():
            try:
                messages = await self.receive()
            except Exception as error:  # SQS was not reached, or refused: nothing is lost, so try again
                logger.warning("no messages: %s", error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), timeout=WAIT_SECONDS)
                continue
            for message in messages:
                await self.handle(message)

    async def receive(self) -> Sequence[dict[str, Any]]:
        # One only. SQS would hand out the next messages of its order too, and count that against them if it fails: they
        # would follow it into the dead-letter queue. While it is in hand, SQS keeps them back.
        reply = await self.sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=WAIT_SECONDS
        )
        messages: Sequence[dict[str, Any]] = reply.get("Messages", [])
        return messages

    async def handle(self, message: dict[str, Any]) -> None:
        try:
            await self.apply(json.loads(message["Body"]))
            # Only now: if this process dies before it, the message comes again.
            await self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        except Exception:  # one message must not end the consumer
            # It comes again after the visibility timeout, and goes to the dead-letter queue in the end.
            logger.exception("message %s was not handled", message["MessageId"])

    async def apply(self, event: dict[str, Any]) -> None:
        """Apply a CloudEvent to its shipment. The same write notes the id of the event, so that a repeat is refused."""
        if event["type"] not in EFFECTS:
            return
        status, parcels = EFFECTS[event["type"]]
        try:
            await self.dynamodb.update_item(
                TableName=self.table_name,
                Key={"id": {"S": event["data"]["order"]}},
                UpdateExpression="SET #status = :status ADD parcels :parcels, events :events",
                ConditionExpression="NOT contains(events, :event)",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={
                    ":status": {"S": status},
                    ":parcels": {"N": str(parcels)},
                    ":event": {"S": event["id"]},
                    ":events": {"SS": [event["id"]]},
                },
            )
        except self.dynamodb.exceptions.ConditionalCheckFailedException:
            logger.info("event %s was handled before", event["id"])
        else:
            logger.info("order %s: %s", event["data"]["order"], status)


async def main() -> None:
    stop, session = asyncio.Event(), get_session()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with session.create_client("sqs") as sqs, session.create_client("dynamodb") as dynamodb:
        consumer = Consumer(
            sqs=sqs,
            queue_url=os.environ["QUEUE_URL"],
            dynamodb=dynamodb,
            table_name=os.environ["SHIPMENTS_TABLE"],
        )
        async with asyncio.TaskGroup() as loops:
            for _ in range(CONCURRENCY):
                loops.create_task(consumer.run(stop))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    asyncio.run(main())
