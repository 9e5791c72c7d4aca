"""The context that an event carries is read as the propagator reads it, also where it is read without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, TextMapPropagator, default_getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dynamodb_outbox import Event
from dynamodb_outbox.integrations.event_contexts import EventContexts

USUAL = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TEXTS = (
    USUAL,
    USUAL.upper(),
    USUAL + "-01",
    USUAL + " ",
    " " + USUAL,
    USUAL + "\n",
    USUAL[:-1],
    "01" + USUAL[2:],
    "ff" + USUAL[2:],
    USUAL.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
    USUAL.replace("b7ad6b7169203331", "0" * 16),
    USUAL[:-2] + "00",
    USUAL[:-2] + "ff",
    USUAL.replace("0af7", "\u0966af7"),
    "",
)


class Counting(CompositePropagator):
    """The propagator that applications have by default, with the number of its calls."""

    def __init__(self) -> None:
        super().__init__([TraceContextTextMapPropagator()])
        self.calls = 0

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        self.calls += 1
        return super().extract(carrier, context, getter)


def by_the_propagator(metadata: dict[str, str]) -> trace.SpanContext | None:
    extracted = propagate.get_global_textmap().extract(metadata, context=Context())
    found = trace.get_current_span(extracted).get_span_context()
    return found if found.is_valid else None


@pytest.mark.parametrize("text", TEXTS)
def test_parent_is_read_as_the_propagator_reads_it(text: str) -> None:
    metadata = {"traceparent": text}
    contexts, event = EventContexts(None), Event("order.placed", metadata=metadata)
    assert contexts.creation(event) == by_the_propagator(metadata)
    assert contexts.for_handler(event, parent=False)[1] == by_the_propagator(metadata)


@given(st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9a-f]*)?", fullmatch=True))
def test_any_parent_is_read_as_the_propagator_reads_it(text: str) -> None:
    metadata = {"traceparent": text}
    assert EventContexts(None).creation(Event("order.placed", metadata=metadata)) == by_the_propagator(metadata)


def test_usual_parent_is_read_without_the_propagator() -> None:
    propagator = Counting()
    contexts = EventContexts(propagator)
    event = Event("order.placed", metadata={"traceparent": USUAL, "correlationId": "c-1"})
    expected = by_the_propagator({"traceparent": USUAL})
    assert expected is not None
    assert contexts.creation(event) == expected
    assert contexts.for_handler(event, parent=False) == (Context(), expected)
    assert propagator.calls == 0


@pytest.mark.parametrize("more", [{"tracestate": "vendor=1"}, {"baggage": "customer=ada"}])
def test_more_than_the_parent_is_read_by_the_propagator(more: dict[str, str]) -> None:
    propagator = Counting()
    event = Event("order.placed", metadata={"traceparent": USUAL, **more})
    found = EventContexts(propagator).creation(event)
    assert found == by_the_propagator({"traceparent": USUAL, **more})
    assert found is not None
    assert found.trace_state == trace.TraceState([("vendor", "1")] if "tracestate" in more else [])
    assert propagator.calls == 1


def test_parent_in_a_form_of_another_propagator_is_left_to_it() -> None:
    class Other(TextMapPropagator):
        """Reads a header that W3C does not know, too."""

        @property
        def fields(self) -> set[str]:
            return {"traceparent", "x-trace"}

        def extract(
            self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
        ) -> Context:
            return Context()

        def inject(self, carrier: object, context: Context | None = None, setter: object = None) -> None: ...

    assert EventContexts(Other()).creation(Event("order.placed", metadata={"traceparent": USUAL})) is None
