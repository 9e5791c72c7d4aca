"""An outbox on virtual time, and the in-memory exporters of OpenTelemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dynamodb_outbox import InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import instrument, uninstrument
from dynamodb_outbox.worker.handling import blocked_loop
from tests.fakes import ScriptedOutbox, quick_outbox
from tests.virtual_time import VirtualTime, install


class Spans:
    """The spans that have ended, by name."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


class Metrics:
    """The metrics that were recorded."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def collect(self) -> list[tuple[str, Any]]:
        """Collect the metrics; return the name of the metric and the point of each time series."""
        data = self._reader.get_metrics_data()
        return [
            (metric.name, point)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """List the attributes and the point of each time series of a metric."""
        return [(dict(point.attributes or {}), point) for found, point in self.collect() if found == name]

    def value(self, name: str, **attributes: str) -> Any:
        """Return the value or the count of the one time series that has the attributes (`__` stands for a dot)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        (point,) = [point for found, point in self.points(name) if wanted.items() <= found.items()]
        return point.count if hasattr(point, "count") else point.value


@pytest.fixture(autouse=True)
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    virtual = install(asyncio.get_running_loop(), monkeypatch)
    monkeypatch.setitem(InMemoryOutbox.__init__.__kwdefaults__, "clock", virtual.clock)
    monkeypatch.setattr(blocked_loop, "perf_counter", virtual.time)
    return virtual


@pytest.fixture
def errors() -> list[Any]:
    """What was reported to `on_error`."""
    return []


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return quick_outbox()


@pytest.fixture
def bus(outbox: ScriptedOutbox, errors: list[Any]) -> OutboxEventBus:
    return OutboxEventBus(outbox, on_error=errors.append)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def traced(bus: OutboxEventBus, spans: Spans) -> Iterator[OutboxEventBus]:
    instrument(bus, tracer_provider=spans.provider)
    yield bus
    uninstrument(bus)


@pytest.fixture
def measured(bus: OutboxEventBus, metrics: Metrics) -> Iterator[OutboxEventBus]:
    instrument(bus, meter_provider=metrics.provider)
    yield bus
    uninstrument(bus)
