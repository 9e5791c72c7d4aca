"""The trace context that events carry in their metadata, from the emit to the handlers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, SpanContext, TraceFlags

from dynamodb_outbox.event import Event

BAGGAGE: Final = "baggage"
TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"
W3C_FIELDS: Final = {TRACE_PARENT, TRACE_STATE, BAGGAGE}
NO_CONTEXT: Final = Context()
_PARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""The usual form of a `traceparent`: https://www.w3.org/TR/trace-context/#traceparent-header."""


class EventContexts:
    """Puts the context of an emit into the metadata of its events, and reads it there.

    The metadata get what the propagator injects, but no `baggage`, unless the propagator is given explicitly.
    """

    def __init__(self, propagator: TextMapPropagator | None) -> None:
        self._given = propagator
        self._reads_w3c: tuple[TextMapPropagator | None, bool] = (None, False)
        """The last propagator, and whether it reads the fields of W3C and no others."""
        self._last_plain: tuple[str | None, SpanContext] = (None, INVALID_SPAN_CONTEXT)
        self._last: tuple[dict[str, Any], TextMapPropagator | None, Context] = ({}, None, NO_CONTEXT)

    def carrier(self, inside: Context) -> dict[str, str]:
        """Return what the metadata of the events that are emitted in a context get."""
        carrier: dict[str, str] = {}
        self._propagator().inject(carrier, context=inside)  # pyright: ignore[reportArgumentType] - its own default setter
        if self._given is None:
            carrier.pop(BAGGAGE, None)
        return carrier

    def creation(self, event: Event) -> SpanContext | None:
        """Return the context of the span of the emit, or None if the event carries none."""
        if not event.metadata:
            return None
        plain = self._plain(event)
        if plain is not None:
            return plain
        carried = trace.get_current_span(self._extracted(event)).get_span_context()
        return carried if carried.is_valid else None

    def for_handler(self, event: Event, *, parent: bool) -> tuple[Context, SpanContext | None]:
        """Return the context for a handler to begin in, and that of the span of the emit, if there is one.

        With `parent` the span of the emit is current in the former.
        """
        if not event.metadata:
            return NO_CONTEXT, None
        if not parent and (plain := self._plain(event)) is not None:
            return NO_CONTEXT, plain
        remote = self._extracted(event)
        creation = trace.get_current_span(remote).get_span_context()
        if not creation.is_valid:
            return remote, None
        if parent:
            return remote, creation
        # Usually, the span of the emit is all that was extracted.
        return NO_CONTEXT if len(remote) == 1 else trace.set_span_in_context(INVALID_SPAN, remote), creation

    def _propagator(self) -> TextMapPropagator:
        return self._given or propagate.get_global_textmap()

    def _plain(self, event: Event) -> SpanContext | None:
        """Read a `traceparent` that has nothing with it, if the propagator would read that: the usual case.

        It takes a quarter of the time of the propagator.
        """
        metadata = event.metadata
        text = metadata.get(TRACE_PARENT)
        if type(text) is not str or TRACE_STATE in metadata or BAGGAGE in metadata:
            return None
        propagator = self._propagator()
        if self._reads_w3c[0] is not propagator:
            self._reads_w3c = (propagator, TRACE_PARENT in propagator.fields and propagator.fields <= W3C_FIELDS)
        if not self._reads_w3c[1]:
            return None
        if self._last_plain[0] != text:
            found = _PARENT.fullmatch(text)
            if found is None:
                return None
            trace_id, span_id, flags = (int(part, 16) for part in found.groups())
            creation = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
            if not creation.is_valid:
                return None
            self._last_plain = (text, creation)
        return self._last_plain[1]

    def _extracted(self, event: Event) -> Context:
        """Read the context that an event carries. All handlers of all events of one emit need the same, in turn."""
        propagator = self._propagator()
        metadata, used, extracted = self._last
        if metadata != event.metadata or used is not propagator:
            extracted = propagator.extract(event.metadata, context=NO_CONTEXT, getter=_METADATA)
            self._last = (dict(event.metadata), propagator, extracted)
        return extracted


class _Metadata(Getter[Mapping[str, Any]]):
    """Reads the texts of metadata, which may have values of any kind."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_METADATA: Final = _Metadata()
