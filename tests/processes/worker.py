"""A worker process for the tests: `python -m tests.processes.worker ENDPOINT TABLE HISTORY [OPTIONS as JSON]`.

SIGTERM ends it. What happens is one line each of the history file, written before anything else happens.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus
from dynamodb_outbox.observing import ClaimRefused
from tests.processes import handlers
from tests.processes.history import Note, arguments


async def main(
    endpoint: str,
    table_name: str,
    note: Note,
    *,
    handler: str = "sleeping",
    handler_options: dict[str, Any] | None = None,
    stop_seconds: float | None = None,
    **options: Any,
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with DynamoDBOutbox.connect(
        table_name=table_name, region_name="us-east-1", endpoint_url=endpoint, **options
    ) as outbox:
        outbox.observers.add(lambda fact: note("refused") if isinstance(fact, ClaimRefused) else None)
        bus = OutboxEventBus(outbox, on_error=lambda error: note("error", text=f"{type(error).__name__}: {error}"))
        register = getattr(handlers, handler)
        register(bus, note, outbox._client, **(handler_options or {}))
        async with bus:
            note("ready")
            await stopped.wait()
            await bus.stop(stop_seconds)


if __name__ == "__main__":
    endpoint, table_name, note, options = arguments()
    asyncio.run(main(endpoint, table_name, note, **options))
