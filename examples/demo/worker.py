"""A worker of the demo: `python -m examples.demo.worker`. It handles every type of event until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
from zlib import crc32

from dynamodb_outbox import Delivery, Event, OutboxEventBus
from examples.demo.events import read_events
from examples.demo.history import HistoryWriter, What
from examples.demo.plan import Plan
from examples.demo.processes import end_with_parent

STOP_SECONDS = 3.0


class MailServerDownError(Exception):
    """What a handler fails with now and then."""


class Handler:
    """Does what takes a moment and sometimes fails, and keeps a history of it."""

    def __init__(self, history: HistoryWriter) -> None:
        self._history = history

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        """Handle an event. The first attempt of one in twenty fails: always the same ones, by their id."""
        self._history.write(What.START, event.id, attempt=delivery.attempt)
        number = crc32(event.id.encode())
        await asyncio.sleep(0.03 + number % 61 / 1000)
        if delivery.attempt == 1 and number % 20 == 0:
            self._history.write(What.FAIL, event.id, attempt=delivery.attempt)
            raise MailServerDownError(f"no confirmation could be sent of {event.type}")
        self._history.write(What.DONE, event.id, attempt=delivery.attempt)


async def work(plan: Plan, name: str) -> None:
    """Deliver events until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    handler = Handler(HistoryWriter(plan.history_file(name)))
    async with plan.connect() as outbox:
        bus = OutboxEventBus(outbox)
        bus.subscribe(sorted({event.type for event in read_events(plan.events_file)}), handler)
        await bus.start()
        await stop.wait()
        await bus.stop(STOP_SECONDS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    end_with_parent()
    asyncio.run(work(*Plan.of_arguments()))
