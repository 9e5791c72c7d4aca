"""Measures what OpenTelemetry costs: events are emitted and handled, with and without `instrument`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.delivering import BATCH_SIZE, CONCURRENCY, Counting
from benchmarks.measure import Measure, Usage
from benchmarks.payloads import TYPE, events
from benchmarks.recording import RecordingClient
from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import instrument, uninstrument

Sdk = Literal["recording", "not set up"]


class _Dropping(SpanExporter):
    """Drops all spans: what an exporter does with them is not measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop spans."""
        return SpanExportResult.SUCCESS


async def cost(clients: Clients, *, count: int, sdk: Sdk, emitters: int = 1) -> Run:
    """Emit events and handle them in the same process; the baseline does so without `instrument`.

    Several emitters share requests, so that each event costs less and OpenTelemetry more in comparison.

    The first half of the baseline runs before, and the second half after, so that a slower machine slows both.
    """
    before, _ = await _handled(clients, count=count // 2, sdk=None, emitters=emitters)
    ours, requests = await _handled(clients, count=count, sdk=sdk, emitters=emitters)
    after, _ = await _handled(clients, count=count - count // 2, sdk=None, emitters=emitters)
    return Run(events=count, ours=ours, baseline=Usage.of([before, after]), requests=requests)


async def _handled(clients: Clients, *, count: int, sdk: Sdk | None, emitters: int) -> tuple[Usage, int]:
    table = await new_table(clients.ours)
    client = RecordingClient(clients.ours)
    outbox = DynamoDBOutbox(
        client,
        table_name=table,
        conditional_writes="batch",
        batch_size=BATCH_SIZE,
        concurrency=2 * CONCURRENCY,
        window=False,
    )
    bus = OutboxEventBus(outbox)
    handler = Counting(count)
    bus.on(TYPE, handler, name="count")
    with _instrumented(bus, sdk):
        async with bus:
            await asyncio.sleep(0.1)
            client.start_over()
            with Measure() as measured:
                await _emit(bus, count, emitters=emitters)
                await handler.done.wait()
                await bus.stop()
    await drop_table(clients.ours, table)
    return measured.usage, len(client.recording.requests)


async def _emit(bus: OutboxEventBus, count: int, *, emitters: int) -> None:
    waiting = iter(events(count))

    async def emitter() -> None:
        for event in waiting:
            await bus.emit(event)

    await asyncio.gather(*(emitter() for _ in range(emitters)))


@contextmanager
def _instrumented(bus: OutboxEventBus, sdk: Sdk | None) -> Iterator[None]:
    if sdk is None:
        yield
        return
    if sdk == "not set up":
        instrument(bus)
        yield
        uninstrument(bus)
        return
    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(BatchSpanProcessor(_Dropping()))
    instrument(bus, tracer_provider=tracers, meter_provider=meters)
    yield
    uninstrument(bus)
    tracers.shutdown()
    meters.shutdown()
