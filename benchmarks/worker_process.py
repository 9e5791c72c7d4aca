"""Run a worker as a separate process, controlled by its standard input: python -m benchmarks.worker_process.

The process prints "ready", waits for "go", prints the number of handled events every 0.1 s, and after "stop" prints its
usage as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.backend import tuned, use_fake_credentials
from benchmarks.measure import Measure, peak_megabytes
from benchmarks.payloads import TYPE
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.observers import Claimed, ClaimRefused, Observation


class Tally:
    """An observer that counts claims, and a handler that counts events."""

    def __init__(self, *, keeps_ids: bool) -> None:
        self.claimed = self.refused = self.handled = 0
        self.ids: list[str] = []
        self._keeps_ids = keeps_ids

    def observe(self, observation: Observation) -> None:
        """Count a claim."""
        if isinstance(observation, Claimed):
            self.claimed += 1
        elif isinstance(observation, ClaimRefused):
            self.refused += 1

    async def handle(self, event: Event) -> None:
        """Count an event."""
        self.handled += 1
        if self._keeps_ids:
            self.ids.append(event.id)


async def work(given: argparse.Namespace) -> None:
    """Deliver events from "go" to "stop"."""
    tally = Tally(keeps_ids=given.ids)
    ordered = await _orders()
    async with tuned(given.endpoint) as client:
        options: dict[str, Any] = {} if given.batch_size is None else {"batch_size": given.batch_size}
        if given.concurrency is not None:
            options["concurrency"] = given.concurrency
        # The observer costs a little time, so it is used only if its counts are needed.
        observers = [tally.observe] if given.ids else []
        bus = OutboxEventBus(DynamoDBOutbox(client, table_name=given.table, observers=observers, **options))
        bus.on(TYPE, tally.handle, name="count")
        _say("ready")
        await ordered()
        stopped = asyncio.create_task(ordered())
        with Measure() as measured:
            async with bus:
                while not stopped.done():
                    await asyncio.wait([stopped], timeout=0.1)
                    _say(str(tally.handled))
    used = {"cpu": measured.usage.cpu, "seconds": measured.usage.seconds, "peak_megabytes": peak_megabytes()}
    counts = {"handled": tally.handled, "claimed": tally.claimed, "refused": tally.refused}
    _say(json.dumps({**used, **counts, "ids": tally.ids}))


async def _orders() -> Callable[[], Any]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader.readline


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_process", description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--ids", action="store_true", help="report the ids of the events, and count the claims")
    use_fake_credentials()
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
