"""Measures what OpenTelemetry costs: the same events are delivered with `instrument`, and without it, in turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from secrets import token_hex
from typing import Final, Literal, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from benchmarks import windows
from benchmarks.backend import Clients, drop_table, new_table
from benchmarks.comparison import Run
from benchmarks.delivering import BATCH_SIZE, CONCURRENCY, Counting
from benchmarks.emitting import stored
from benchmarks.measure import Measure, Usage
from benchmarks.payloads import TYPE, events, order, prepared_items
from benchmarks.recording import RecordingClient
from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.opentelemetry import instrument, uninstrument

Sdk = Literal["recording", "not set up", "bare calls"]
"""An SDK records; or no SDK is set up; or the handler itself calls the SDK, as seldom as possible."""
PROMISED: Final[tuple[Sdk, ...]] = ("recording", "not set up")
SDKS: Final[tuple[Sdk, ...]] = (*PROMISED, "bare calls")

ROUNDS: Final = 2
"""In each round, both sides deliver their events, and the sides take turns in who begins."""

WARM_UPS: Final = 50
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_EMIT: Final = f"00-{1 << 100:032x}-{1 << 50:016x}-01"
"""The context of an emit that made no span."""
SPAN_ATTRIBUTES: Final = 9
"""The attributes of the span of a handler call."""


class Deliver(Protocol):
    """Delivers events with or without an SDK, and measures it."""

    def __call__(self, client: RecordingClient, table: str, many: int, given: Sdk | None, /) -> Awaitable[Usage]:
        """Deliver `many` events."""
        ...


class _Dropping(SpanExporter):
    """Drops all spans: what an exporter does with them is not measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Drop spans."""
        return SpanExportResult.SUCCESS


class _Providers:
    """An SDK that records. Its metrics are not collected, because that happens once a minute, not for each event."""

    def __init__(self) -> None:
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(BatchSpanProcessor(_Dropping()))
        self.meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)

    def shut_down(self) -> None:
        """End the threads of the SDK."""
        self.tracers.shutdown()
        self.meters.shutdown()


class _Bare(Counting):
    """A handler that makes a span with a link to the emit, and records the three durations that each event has.

    So a handler would do it by itself.
    """

    def __init__(self, expected: int, providers: _Providers) -> None:
        super().__init__(expected)
        self._tracer = providers.tracers.get_tracer("bare")
        meter = providers.meters.get_meter("bare")
        self._durations = [
            (
                meter.create_histogram(metric.name, explicit_bucket_boundaries_advisory=metric.buckets),
                dict.fromkeys({*metric.attributes, metrics.SYSTEM, metrics.TABLE} - {metrics.ERROR}, "name"),
            )
            for metric in (metrics.PROCESS_DURATION, metrics.WAIT_DURATION, metrics.CRITICAL_DURATION)
        ]
        self._attributes = {f"attribute-{number}": "name" for number in range(SPAN_ATTRIBUTES)}

    async def __call__(self, event: Event) -> None:
        """Make the bare calls, and count the event."""
        _, trace_id, span_id, _ = event.metadata.get("traceparent", _EMIT).split("-")
        emit = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED)
        with self._tracer.start_as_current_span(
            "process", context=Context(), kind=SpanKind.CONSUMER, attributes=self._attributes, links=[Link(emit)]
        ):
            await super().__call__(event)
        for histogram, attributes in self._durations:
            histogram.record(0.02, attributes)


async def polled(clients: Clients, *, count: int, sdk: Sdk) -> Run:
    """Deliver a backlog. If the SDK records, the events have a `traceparent`, as an emit stores it."""

    async def deliver(client: RecordingClient, table: str, many: int, given: Sdk | None) -> Usage:
        waiting = _traced(many) if given in ("recording", "bare calls") else events(many)
        await stored(clients.ours, prepared_items(waiting), table=table)
        bus = OutboxEventBus(
            DynamoDBOutbox(
                client, table_name=table, conditional_writes="batch", batch_size=BATCH_SIZE, concurrency=CONCURRENCY
            )
        )
        with _observed(bus, many, given) as (handler, flush), Measure() as measured:
            async with bus:
                await handler.done.wait()
            flush()
        return measured.usage

    return await _in_turns(clients, deliver, count=count, sdk=sdk)


async def one_by_one(clients: Clients, *, count: int, sdk: Sdk) -> Run:
    """Emit one event after the other where its handler is, in a window."""
    return await _in_turns(clients, partial(_on_emit, windows.emit_each), count=count, sdk=sdk)


async def many_at_once(clients: Clients, *, count: int, sdk: Sdk) -> Run:
    """Emit 25 events per call where their handler is, in a window, with four emitters."""
    return await _in_turns(clients, partial(_on_emit, windows.emit_chunks), count=count, sdk=sdk)


FLOWS: Final = {
    "polled in batches": polled,
    "on emit, one by one": one_by_one,
    "on emit, 25 at once": many_at_once,
}


async def _on_emit(emit: windows.Emit, client: RecordingClient, table: str, many: int, given: Sdk | None) -> Usage:
    async with windows.warm(client, table, window=True) as bus:
        with _observed(bus, many, given) as (handler, flush), Measure() as measured:
            await emit(bus, many)
            await handler.done.wait()
            await bus.stop()
            flush()
    return measured.usage


async def _in_turns(clients: Clients, deliver: Deliver, *, count: int, sdk: Sdk) -> Run:
    """Deliver events with and without `instrument` in turns, so that a slower machine slows both."""
    table, client = await new_table(clients.ours), RecordingClient(clients.ours, kept=len)
    usages: dict[Sdk | None, list[Usage]] = {sdk: [], None: []}
    sides: list[Sdk | None] = [None, sdk]
    requests, each = 0, count // ROUNDS
    await deliver(client, table, min(each, WARM_UPS), None)  # the first delivery of a table costs more, on either side
    for _ in range(ROUNDS):
        for side in sides:
            client.start_over()
            usages[side].append(await deliver(client, table, each, side))
            requests += 0 if side is None else len(client.recording.requests)
        sides.reverse()
    await drop_table(clients.ours, table)
    ours, baseline = Usage.of(usages[sdk]), Usage.of(usages[None])
    return Run(events=ROUNDS * each, ours=ours, baseline=baseline, requests=requests)


def _traced(many: int) -> list[Event]:
    return [
        Event(TYPE, order(), metadata={"traceparent": f"00-{token_hex(16)}-{token_hex(8)}-01"}) for _ in range(many)
    ]


@contextmanager
def _observed(bus: OutboxEventBus, many: int, sdk: Sdk | None) -> Iterator[tuple[Counting, Callable[[], object]]]:
    """Register a handler, and observe it. Yields it with a function that exports the spans so far."""
    providers = _Providers()
    handler = _Bare(many, providers) if sdk == "bare calls" else Counting(many)
    bus.on(TYPE, handler, name="count")
    if sdk == "recording":
        instrument(bus, tracer_provider=providers.tracers, meter_provider=providers.meters)
    elif sdk == "not set up":
        instrument(bus)
    yield handler, providers.tracers.force_flush
    uninstrument(bus)
    providers.shut_down()
