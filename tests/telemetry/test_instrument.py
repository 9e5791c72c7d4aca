"""`instrument`: once for an outbox, undone by `uninstrument`, and nothing at all without an SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dynamodb_outbox import ConfigurationError, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import instrument, uninstrument
from tests.fakes import Recorder
from tests.telemetry.conftest import Metrics, Spans


async def test_without_an_sdk_nothing_is_observed(bus: OutboxEventBus) -> None:
    instrument(bus)
    assert not bus.outbox.observers
    assert bus.outbox.observers.instrumentation is None
    assert uninstrument(bus)


async def test_outbox_is_instrumented_once(bus: OutboxEventBus, spans: Spans, metrics: Metrics) -> None:
    instrument(bus, tracer_provider=spans.provider, meter_provider=metrics.provider)
    with pytest.raises(ConfigurationError, match="the outbox of this bus is instrumented already"):
        instrument(OutboxEventBus(bus.outbox), tracer_provider=spans.provider)
    assert uninstrument(bus)
    assert not uninstrument(bus)
    bus.on("order.placed", Recorder())
    await bus.emit("order.placed")
    await bus.run_once()
    assert spans.all == []
    assert metrics.points("messaging.client.sent.messages") == []


async def test_bad_options_are_refused(bus: OutboxEventBus) -> None:
    with pytest.raises(ConfigurationError, match="parent=1"):
        instrument(bus, parent=1)  # type: ignore[arg-type]  # what is refused


def test_import_of_the_library_imports_no_integration() -> None:
    program = (
        "import sys, dynamodb_outbox\n"
        "found = [name for name in sys.modules if name.startswith(('opentelemetry', 'dynamodb_outbox.integrations'))]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
