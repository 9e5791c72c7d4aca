"""A process that emits events it also handles, and dies right after the last was acknowledged: `emits` of `Workers`."""

from __future__ import annotations

import asyncio
import os
import signal

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from tests.processes.history import Note, arguments


async def main(endpoint: str, table_name: str, note: Note, *, count: int) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=endpoint, processing_timeout=2.0
    ) as outbox:
        bus = OutboxEventBus(outbox)

        @bus.on("t", name="sleeping")
        async def handler(event: Event) -> None:
            await asyncio.sleep(0.05)

        await bus.start()

        async def emit() -> None:
            event = await bus.emit("t")
            note("emitted", id=event.id)

        for _ in range(count // 20):
            await asyncio.gather(*(emit() for _ in range(20)))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    endpoint, table_name, note, options = arguments()
    asyncio.run(main(endpoint, table_name, note, **options))
