"""What is stored of a context: what the propagator injects, without the baggage unless it was asked for."""

from __future__ import annotations

from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import instrument
from tests.telemetry.conftest import Spans


async def emit_with_baggage(bus: OutboxEventBus) -> tuple[set[str], list[object]]:
    """Emit and handle an event; return the names of its metadata, and the baggage of its handler."""
    seen: list[object] = []
    names: set[str] = set()

    @bus.on("order.placed")
    async def bill(event: Event) -> None:
        names.update(event.metadata)
        seen.append(baggage.get_baggage("customer"))

    token = context.attach(baggage.set_baggage("customer", "ada"))
    try:
        await bus.emit("order.placed")
    finally:
        context.detach(token)
    await bus.run_once()
    return names, seen


async def test_baggage_is_not_stored(traced: OutboxEventBus) -> None:
    assert await emit_with_baggage(traced) == ({"traceparent"}, [None])


async def test_baggage_is_stored_with_a_propagator_of_it(bus: OutboxEventBus, spans: Spans) -> None:
    propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    instrument(bus, tracer_provider=spans.provider, propagator=propagator)
    assert await emit_with_baggage(bus) == ({"traceparent", "baggage"}, ["ada"])
