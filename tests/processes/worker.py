"""A worker process: `python -m tests.processes.worker ENDPOINT TABLE HISTORY OFFSET [OPTIONS as JSON]`.

SIGTERM ends it. What happens is one line each of the history file, written before anything else happens.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus
from reliability.history import CallsCounted
from reliability.recording import Recorder
from reliability.resources import Calls
from tests.processes import handlers
from tests.processes.program import arguments


async def main(
    endpoint: str,
    table_name: str,
    recorder: Recorder,
    *,
    handler: str = "sleeping",
    handler_options: dict[str, Any] | None = None,
    stop_seconds: float | None = None,
    clock_ahead: float = 0.0,
    known_offset: float = 0.0,
    **options: Any,
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with DynamoDBOutbox.connect(
        table_name=table_name,
        region_name="us-east-1",
        endpoint_url=endpoint,
        clock=lambda: time.time() + clock_ahead,
        **options,
    ) as outbox:
        client = outbox._client
        calls = Calls(client)
        bus = OutboxEventBus(recorder.around(outbox), on_error=recorder.report)
        register = getattr(handlers, handler)
        register(bus, recorder, client, **(handler_options or {}))
        async with bus:
            recorder.started(outbox, clock_offset=clock_ahead or known_offset)
            await stopped.wait()
            await bus.stop(stop_seconds)
        recorder.stopped(client)
        for operation, count in calls.counter.items():
            recorder.write(CallsCounted(at=recorder.now(), worker=recorder.worker, operation=operation, calls=count))


if __name__ == "__main__":
    endpoint, table_name, recorder, options = arguments()
    asyncio.run(main(endpoint, table_name, recorder, **options))
