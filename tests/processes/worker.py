"""A worker process for the tests: `python worker.py ENDPOINT TABLE HISTORY [OPTIONS as JSON]`, ended by SIGTERM.

Every start and end of a handler is one line of the history file, written before anything else happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus


async def main(endpoint: str, table_name: str, history: str, options: dict[str, Any]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    seconds = options.pop("handler_seconds", 0.0)
    file = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, **facts: Any) -> None:
        os.write(file, (json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n").encode())

    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=endpoint, **options
    ) as outbox:
        bus = OutboxEventBus(outbox, on_error=lambda error: note("error", text=f"{type(error).__name__}: {error}"))

        @bus.on("t")
        async def handler(event: Event) -> None:
            note("start", id=event.id)
            await asyncio.sleep(seconds)
            note("end", id=event.id)

        async with bus:
            note("ready")
            await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}))  # type: ignore[arg-type]
