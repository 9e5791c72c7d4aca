"""Run a worker that is to be killed: python -m benchmarks.killed_process.

The process emits events whose handlers never end, prints the ids of the events as JSON, and then waits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import Final

from benchmarks.backend import tuned, use_fake_credentials
from benchmarks.delivering import EMITS_AT_ONCE
from benchmarks.payloads import TYPE, events
from benchmarks.windows import open_window
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus

AT_ONCE: Final = 25
LONG: Final = 600.0


async def work(given: argparse.Namespace) -> None:
    """Emit the events, and wait to be killed."""
    async with tuned(given.endpoint) as client:
        outbox = DynamoDBOutbox(
            client,
            table_name=given.table,
            processing_timeout=given.lease,
            concurrency=2 * given.events,
            window=given.window,
        )
        bus = OutboxEventBus(outbox)
        # The time limit keeps the handlers from being cancelled, however slowly the events are emitted.
        bus.on(TYPE, _hang, name="count", timeout=LONG)
        async with bus:
            if given.window:
                await open_window(bus)
            ids: list[str] = []
            chunks = iter(range(0, given.events, AT_ONCE))

            async def emitter() -> None:
                for _ in chunks:
                    emitted = events(AT_ONCE)
                    await bus.emit_many(emitted)
                    ids.extend(event.id for event in emitted)

            await asyncio.gather(*(emitter() for _ in range(EMITS_AT_ONCE)))
            sys.stdout.write(json.dumps(ids) + "\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


async def _hang(event: Event) -> None:
    await asyncio.Event().wait()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed_process", description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--window", action=argparse.BooleanOptionalAction, required=True)
    use_fake_credentials()
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
