"""The spans of an outbox, by the semantic conventions for messaging 1.44."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from dynamodb_outbox.event import Event, with_metadata
from dynamodb_outbox.instrumentation import HandlerCall
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.event_contexts import NO_CONTEXT, EventContexts
from dynamodb_outbox.integrations.measuring import OPERATIONS, error_type, outcome_of
from dynamodb_outbox.outcome import RetryLater

T = TypeVar("T")

MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BATCH_COUNT: Final = "messaging.batch.message_count"
SPAN_TABLE: Final = "messaging.dynamodb_outbox.table"
ATTEMPT: Final = "messaging.dynamodb_outbox.attempt"
MAX_ATTEMPTS: Final = "messaging.dynamodb_outbox.max_attempts"
SPAN_OUTCOME: Final = "messaging.dynamodb_outbox.outcome"
SUPPRESSED: Final[str] = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
"""The key by which instrumentations of OpenTelemetry see that they should make no spans."""
MAX_DESCRIPTION: Final = 500
MAX_LINKS: Final = 128
"""A span has at most this many links, which is the default limit of the SDK."""
MAX_PREPARED: Final = 1000
"""The attributes of so many kinds of spans are kept, however many event types there are."""
_NOTHING: Final = nullcontext()


class Tracing:
    """Makes spans of emits and handler calls, and hands their context on in the metadata of events.

    The metadata get what the propagator injects, but no `baggage`, unless the propagator is given explicitly.
    """

    def __init__(
        self, tracer: Tracer, *, table: str, parent: bool, storage_spans: bool, propagator: TextMapPropagator | None
    ) -> None:
        self._tracer = tracer
        self._table = table
        self._parent = parent
        self._storage_spans = storage_spans
        self._contexts = EventContexts(propagator)
        self._prepared: dict[tuple[str, ...], dict[str, Any]] = {}

    # The brackets

    def enter_worker(self) -> None:
        """Leave the span in which the worker was started, and suppress the spans of the SDK in its loops.

        The loops poll all the time and have no parent, so that each request would be a separate trace. Handlers have a
        new context.
        """
        context.attach(
            Context() if self._storage_spans else context.set_value(SUPPRESSED, value=True, context=Context())
        )

    def emitting(self, events: Sequence[Event], *, stores: bool) -> AbstractContextManager[Sequence[Event]]:
        """Surround an emit with a span, whose context the events carry. In a transaction each event has its own span.

        An event that carries a context already keeps that one, and the span links to it.
        """
        if not stores:
            return nullcontext([self._created(event) for event in events])
        carried = [self._contexts.creation(event) for event in events]
        links = [Link(each) for each in carried if each is not None][:MAX_LINKS]
        kind = SpanKind.PRODUCER if len(links) < len(events) else SpanKind.CLIENT
        span = self._tracer.start_span(
            _name("emit", events), kind=kind, attributes=self._described("emit", "send", events), links=links
        )
        inside = trace.set_span_in_context(span)
        carrier = self._contexts.carrier(inside)
        prepared = [
            _with_context(event, carrier) if own is None else event for event, own in zip(events, carried, strict=True)
        ]
        return _CurrentSpan(span, inside, prepared)

    def committing(self, events: Sequence[Event]) -> AbstractContextManager[object]:
        """Surround the commit of a transaction with a span that links to the spans of its events."""
        carried = [self._contexts.creation(event) for event in events[:MAX_LINKS]]
        span = self._tracer.start_span(
            _name("commit", events),
            kind=SpanKind.CLIENT,
            attributes=self._described("commit", "send", events),
            links=[Link(each) for each in carried if each is not None],
        )
        return _CurrentSpan(span, trace.set_span_in_context(span), None)

    def handling(self, call: HandlerCall) -> AbstractContextManager[object]:
        """Surround a handler with a span that links to the emit of its event, or is its child with `parent`."""
        event = call.event
        outside, creation = self._contexts.for_handler(event, parent=self._parent)
        attributes = self._described("process", "process", (event,))
        attributes[metrics.HANDLER] = call.handler
        attributes[ATTEMPT] = call.attempt
        attributes[MAX_ATTEMPTS] = call.max_attempts
        span = self._tracer.start_span(
            f"process {event.type}",
            context=outside,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=(Link(creation),) if creation is not None else None,
        )
        return _ProcessSpan(span, trace.set_span_in_context(span, outside), None)

    def storing(self, operation: str) -> AbstractContextManager[object]:
        """Surround a call of a worker's loop with a span, if that was asked for; see `enter_worker`."""
        if not self._storage_spans:
            return _NOTHING
        name, kind = OPERATIONS.get(operation, (operation, None))
        if kind == "send":
            return _NOTHING  # an emit or a commit, which has a span already
        attributes = {metrics.SYSTEM: metrics.SYSTEM_NAME, metrics.OPERATION: name, SPAN_TABLE: self._table}
        if kind is not None:
            attributes[metrics.OPERATION_TYPE] = kind
        outside = NO_CONTEXT
        span = self._tracer.start_span(name, context=outside, kind=SpanKind.CLIENT, attributes=attributes)
        return _CurrentSpan(span, trace.set_span_in_context(span, outside), None)

    # The parts of spans

    def _created(self, event: Event) -> Event:
        if self._contexts.creation(event) is not None:
            return event
        span = self._tracer.start_span(
            _name("create", [event]),
            kind=SpanKind.PRODUCER,
            attributes=self._described("create", "create", [event]),
        )
        span.end()
        return _with_context(event, self._contexts.carrier(trace.set_span_in_context(span)))

    def _described(self, operation: str, kind: str, events: Sequence[Event]) -> dict[str, Any]:
        event_type = _common_type(events)
        attributes = self._common(operation, kind, event_type).copy()
        if len(events) == 1:
            event = events[0]
            attributes[MESSAGE_ID] = event.id
            if event.metadata and isinstance(conversation := event.metadata.get("correlationId"), str):
                attributes[CONVERSATION_ID] = conversation
        else:
            attributes[BATCH_COUNT] = len(events)
        return attributes

    def _common(self, operation: str, kind: str, event_type: str | None) -> dict[str, Any]:
        key = (operation, event_type or "")
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = {
                metrics.SYSTEM: metrics.SYSTEM_NAME,
                metrics.OPERATION: operation,
                metrics.OPERATION_TYPE: kind,
                SPAN_TABLE: self._table,
            }
            if event_type is not None:
                prepared[metrics.TYPE] = event_type
            if len(self._prepared) < MAX_PREPARED:
                self._prepared[key] = prepared
        return prepared


class _CurrentSpan(Generic[T]):
    """A span that is current in a block, and ends with it."""

    __slots__ = ("_inside", "_span", "_token", "_value")

    def __init__(self, span: Span, inside: Context, value: T) -> None:
        self._span = span
        self._inside = inside
        self._value = value

    def __enter__(self) -> T:
        self._token: Token[Context] = context.attach(self._inside)
        return self._value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._span.is_recording():
                self._note(error)
        finally:
            # A coroutine that is closed by the garbage collector is not in its own context any more.
            if kind is not GeneratorExit:
                context.detach(self._token)
            self._span.end()

    def _note(self, error: BaseException) -> None:
        if not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            _note_error(self._span, error)


class _ProcessSpan(_CurrentSpan[None]):
    """The span of a handler call, with its outcome."""

    __slots__ = ()

    def _note(self, error: BaseException) -> None:
        self._span.set_attribute(SPAN_OUTCOME, outcome_of(error))
        if not isinstance(error, RetryLater):
            super()._note(error)


def _note_error(span: Span, error: BaseException) -> None:
    span.set_attribute(metrics.ERROR, error_type(error))
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, str(error)[:MAX_DESCRIPTION]))


def _with_context(event: Event, carrier: Mapping[str, str]) -> Event:
    return with_metadata(event, {**carrier, **event.metadata}) if carrier else event


def _common_type(events: Sequence[Event]) -> str | None:
    if len(events) == 1:
        return events[0].type
    types = {event.type for event in events}
    return next(iter(types)) if len(types) == 1 else None


def _name(operation: str, events: Sequence[Event]) -> str:
    event_type = _common_type(events)
    return operation if event_type is None else f"{operation} {event_type}"
