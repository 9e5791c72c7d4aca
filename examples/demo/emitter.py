"""The emitter of the demo: `python -m examples.demo.emitter`. It emits all events within some seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from dynamodb_outbox import Event, OutboxEventBus
from examples.demo.events import read_events
from examples.demo.history import HistoryReader, HistoryWriter, What
from examples.demo.ledger import Ledger
from examples.demo.plan import Plan
from examples.demo.processes import end_with_parent

CHUNKS: Final = 40
PAUSE_SECONDS: Final = 0.2
BACKLOG: Final = 30
"""The emitter waits while more events are unhandled: the three workers would race for the head of a long queue."""


class Progress:
    """How far the workers are, by what all processes write down."""

    def __init__(self, plan: Plan) -> None:
        self._histories = HistoryReader(plan.folder)
        self._ledger = Ledger()

    async def wait_for_workers(self) -> None:
        """Pause, and go on pausing while the backlog is too long."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            self._ledger.add(self._histories.read_new())
            if len(self._ledger.emitted) - self._ledger.handled <= BACKLOG:
                return


async def emit(plan: Plan, name: str) -> None:
    """Emit chunk by chunk: the first event of each by itself, the others together."""
    history = HistoryWriter(plan.history_file(name))
    progress = Progress(plan)
    events = read_events(plan.events_file)
    size = max(len(events) // CHUNKS, 1)
    async with plan.connect() as outbox:
        bus = OutboxEventBus(outbox)
        for start in range(0, len(events), size):
            first, *others = events[start : start + size]
            await bus.emit(first)
            _note(history, [first])
            if others:
                _note(history, await bus.emit_many(others))
            await progress.wait_for_workers()


def _note(history: HistoryWriter, acknowledged: Iterable[Event]) -> None:
    for event in acknowledged:
        history.write(What.EMITTED, event.id)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    end_with_parent()
    asyncio.run(emit(*Plan.of_arguments()))
