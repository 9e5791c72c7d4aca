"""A process that emits events it also handles, and dies right after the last was acknowledged: `emits` of `Workers`."""

from __future__ import annotations

import asyncio

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from reliability.recording import Recorder
from tests.processes.program import arguments, die


async def main(endpoint: str, table_name: str, recorder: Recorder, *, count: int) -> None:
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=endpoint, processing_timeout=2.0
    ) as outbox:
        bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)

        @bus.on("order.placed", name="sleeping")
        async def handler(event: Event) -> None:
            await asyncio.sleep(0.05)

        await bus.start()
        recorder.started(outbox)
        for _ in range(count // 20):
            await asyncio.gather(*(bus.emit("order.placed") for _ in range(20)))
        die(recorder)


if __name__ == "__main__":
    endpoint, table_name, recorder, options = arguments()
    asyncio.run(main(endpoint, table_name, recorder, **options))
