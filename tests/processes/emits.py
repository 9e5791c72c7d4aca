"""A process that emits events it also handles: `emits` of `Workers`. It dies right after the last was acknowledged.

The handlers of the last events would take long, so that the process dies while they run. With `dies=False` it stops
when it gets SIGTERM. With `pause`, seconds, it rests between groups of 20 events.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxError, OutboxEventBus
from reliability.recording import Recorder
from tests.processes.program import arguments, die

GROUP = 20


async def main(
    endpoint: str,
    table_name: str,
    recorder: Recorder,
    *,
    count: int,
    dies: bool = True,
    pause: float = 0.0,
    **options: Any,
) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with DynamoDBOutbox.connect(
        table_name=table_name,
        region_name="us-east-1",
        endpoint_url=endpoint,
        **{"processing_timeout": 2.0, "poll_interval": 0.2, **options},
    ) as outbox:
        bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)

        seconds = 0.05

        @bus.on("order.placed", name="sleeping")
        async def handler(event: Event) -> None:
            await asyncio.sleep(seconds)

        async def emit() -> None:
            try:
                await bus.emit("order.placed")
            except OutboxError as error:
                recorder.note(f"not emitted: {error}")

        await bus.start()
        recorder.started(outbox)
        groups = count // GROUP
        for group in range(1, groups + 1):
            if dies and group == groups:
                seconds = 60.0
            await asyncio.gather(*(emit() for _ in range(GROUP)))
            await asyncio.sleep(pause)
        recorder.note("emitted")
        if dies:
            die(recorder)
        await stopped.wait()
        await bus.stop()
        recorder.stopped(outbox._client)


if __name__ == "__main__":
    endpoint, table_name, recorder, options = arguments()
    asyncio.run(main(endpoint, table_name, recorder, **options))
