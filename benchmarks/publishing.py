"""Measures events from their emit to a queue of SQS, claimed on emit in a window.

One baseline makes the same requests to DynamoDB, and sends the messages in a loop of `send_message_batch` of ten each.
The other baseline is the loop alone, which is what a service does that has no outbox.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks import baseline
from benchmarks.backend import REGION, Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.measure import Measure, Usage, uncounted
from benchmarks.payloads import TYPE, events
from benchmarks.recording import RecordingClient, packed, unpacked
from benchmarks.windows import copied, emit_chunks, warm
from dynamodb_outbox.publishers import SqsPublisher

QUEUE_URL: Final = "http://queue.invalid/000000000000/orders"
AT_ONCE: Final = 10
"""The requests that are under way at a time, of the publisher and of the loop."""
SAME_REQUESTS: Final = "emit to SQS"
SENDS_ALONE: Final = "emit to SQS, by the sends alone"


async def by_same_requests(clients: Clients, *, count: int) -> Run:
    """Emit 25 events per call, with four emitters; the baseline makes the same requests, with ready arguments."""
    return await _published(clients, count=count, also_stores=True)


async def by_sends(clients: Clients, *, count: int) -> Run:
    """Emit 25 events per call, with four emitters; the baseline sends the messages, and stores nothing."""
    return await _published(clients, count=count, also_stores=False)


async def _published(clients: Clients, *, count: int, also_stores: bool) -> Run:
    ours, target = await new_table(clients.ours), await new_table(clients.ours)
    recorder = RecordingClient(clients.ours)
    async with _queue() as sqs, warm(recorder, ours, window=True) as bus:
        sends = _Sends(sqs)
        publisher = SqsPublisher(queue_url=QUEUE_URL, client=sends)
        await publisher(events(1)[0])  # opens the connection and loads the model of the service
        sends.start_over()
        bus.on(TYPE, publisher)
        await copied(clients.ours, ours, target)
        recorder.start_over()
        with Measure() as measured:
            await emit_chunks(bus, count)
            await bus.stop()
        if sum(sends.sizes) != count:
            raise baseline.BaselineError(f"{sum(sends.sizes)} messages were sent for {count} events")
        usage = await _sent_in_tens(sqs, sends.entries())
        if also_stores:
            recording = baseline.moved(recorder.recording, source=ours, target=target)
            usage = Usage.of([usage, await baseline.replayed(clients.bare, recording)])
    await drop_table(clients.ours, ours)
    await drop_table(clients.ours, target)
    return Run(events=count, ours=measured.usage, baseline=usage, requests=len(sends.sizes))


async def _sent_in_tens(sqs: Any, entries: list[dict[str, Any]]) -> Usage:
    batches = iter([entries[first : first + 10] for first in range(0, len(entries), 10)])

    async def sender() -> None:
        for batch in batches:
            await sqs.send_message_batch(QueueUrl=QUEUE_URL, Entries=batch)

    with Measure() as measured:
        await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
    return measured.usage


class _Sends:
    """A client of SQS that records what is sent, packed as a `RecordingClient` does."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._packed: list[bytes] = []
        self.sizes: list[int] = []
        self.meta = client.meta

    async def send_message_batch(self, **arguments: Any) -> Any:
        self._packed.append(uncounted(packed, arguments))
        self.sizes.append(len(arguments["Entries"]))
        return await self._client.send_message_batch(**arguments)

    def start_over(self) -> None:
        self._packed.clear()
        self.sizes.clear()

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, with ids from 0 to 9 again."""
        sent = [entry for each in self._packed for entry in unpacked(each)["Entries"]]
        return [{**entry, "Id": str(number % 10)} for number, entry in enumerate(sent)]


@asynccontextmanager
async def _queue() -> AsyncGenerator[Any]:
    """Open a client of a process that answers like SQS."""
    command = (sys.executable, "-m", "benchmarks.queue_process")
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        port = int(await cast("asyncio.StreamReader", process.stdout).readline())
        config = AioConfig(max_pool_connections=AT_ONCE, retries={"mode": "standard", "total_max_attempts": 1})
        make: Callable[..., Any] = get_session().create_client
        async with make("sqs", region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}", config=config) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()
