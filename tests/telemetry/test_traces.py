"""Traces: an emit is linked to the handlers of its event, each attempt has a span, and nothing else does."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from dynamodb_outbox import DuplicateEventError, Event, OutboxEventBus, Reject, RetryLater
from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.integrations.opentelemetry import instrument
from dynamodb_outbox.integrations.tracing import SUPPRESSED
from dynamodb_outbox.middleware import CallNext
from tests.fakes import Call, Recorder, ScriptedOutbox
from tests.telemetry.conftest import Spans

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def deliver(bus: OutboxEventBus, times: int = 1) -> None:
    """Handle what is due, and the retries after it."""
    for _ in range(times):
        await bus.run_once()
        await anyio.sleep(1)


def links(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_handler_is_linked_to_the_emit_and_begins_a_trace(traced: OutboxEventBus, spans: Spans) -> None:
    traced.on("order.placed", Recorder(), name="bill")
    event = await traced.emit("order.placed")
    await deliver(traced)
    emit, process = spans.all
    assert (emit.name, emit.kind) == ("emit order.placed", SpanKind.PRODUCER)
    assert (process.name, process.kind) == ("process order.placed", SpanKind.CONSUMER)
    assert process.parent is None
    assert links(process) == [id_of(emit)]
    assert emit.status.status_code is process.status.status_code is StatusCode.UNSET
    assert event is not None
    common = {
        "messaging.system": "dynamodb_outbox",
        "messaging.destination.name": "order.placed",
        "messaging.message.id": event.id,
        "messaging.dynamodb_outbox.table": "memory",
    }
    assert attributes(emit) == common | {"messaging.operation.name": "emit", "messaging.operation.type": "send"}
    assert attributes(process) == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.subscription.name": "bill",
        "messaging.dynamodb_outbox.attempt": 1,
        "messaging.dynamodb_outbox.max_attempts": 6,
    }


async def test_handler_is_a_child_of_the_emit_on_request(bus: OutboxEventBus, spans: Spans) -> None:
    instrument(bus, tracer_provider=spans.provider, parent=True)
    bus.on("order.placed", Recorder())
    await bus.emit("order.placed")
    await deliver(bus)
    emit, process = spans.all
    assert process.parent is not None
    assert process.parent.span_id == id_of(emit)
    assert links(process) == [id_of(emit)]


async def test_each_attempt_has_a_span_that_links_to_the_same_emit(traced: OutboxEventBus, spans: Spans) -> None:
    @traced.on("order.placed")
    async def bill(event: Event, delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise ValueError("no address")

    await traced.emit("order.placed")
    await deliver(traced, 2)
    first, second = spans.named("process order.placed")
    assert links(first) == links(second) == [id_of(spans.one("emit order.placed"))]
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "no address"
    assert attributes(first)["error.type"] == "ValueError"
    assert attributes(first)["messaging.dynamodb_outbox.outcome"] == "failed"
    assert [event.name for event in first.events] == ["exception"]
    assert second.status.status_code is StatusCode.UNSET
    assert attributes(second)["messaging.dynamodb_outbox.attempt"] == 2


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (Reject("no use"), "rejected", StatusCode.ERROR),
        (RetryLater(5), "retry_later", StatusCode.UNSET),
        (ExceptionGroup("several", [Reject("no use")]), "rejected", StatusCode.ERROR),
    ],
)
async def test_outcome_of_a_signal(
    traced: OutboxEventBus, spans: Spans, error: Exception, outcome: str, status: StatusCode
) -> None:
    @traced.on("order.placed")
    async def bill(event: Event) -> None:
        raise error

    await traced.emit("order.placed")
    await deliver(traced)
    process = spans.one("process order.placed")
    assert attributes(process)["messaging.dynamodb_outbox.outcome"] == outcome
    assert process.status.status_code is status


async def test_timeout_is_an_error_and_a_stop_is_not(traced: OutboxEventBus, spans: Spans) -> None:
    @traced.on("slow", timeout=0.1, max_retries=0)
    async def slow(event: Event) -> None:
        await anyio.sleep(60)

    started = anyio.Event()

    @traced.on("stopped")
    async def stopped(event: Event) -> None:
        started.set()
        await anyio.sleep(20)

    await traced.emit("slow")
    await deliver(traced)
    async with traced:
        await traced.emit("stopped")
        await started.wait()
        await traced.stop(timeout=0)
    timed_out, cancelled = spans.one("process slow"), spans.one("process stopped")
    assert attributes(timed_out)["error.type"] == "HandlerTimeoutError"
    assert attributes(timed_out)["messaging.dynamodb_outbox.outcome"] == "timed_out"
    assert timed_out.status.status_code is StatusCode.ERROR
    assert attributes(cancelled)["messaging.dynamodb_outbox.outcome"] == "cancelled"
    assert "error.type" not in attributes(cancelled)
    assert cancelled.status.status_code is StatusCode.UNSET


async def test_committed_transaction_is_a_success_whatever_follows(traced: OutboxEventBus, spans: Spans) -> None:
    @traced.on("order.placed")
    async def bill(event: Event, delivery: Delivery) -> None:
        async with delivery.transaction():
            pass
        raise ValueError("too late")

    await traced.emit("order.placed")
    await deliver(traced)
    assert spans.one("process order.placed").status.status_code is StatusCode.UNSET


async def test_span_of_the_handler_is_current_in_middleware_and_handler(traced: OutboxEventBus, spans: Spans) -> None:
    current: list[int] = []

    async def middleware(event: Event, call_next: CallNext) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)
        await call_next(event)

    traced.add_handler_middleware(middleware)

    @traced.on("order.placed")
    async def bill(event: Event, delivery: Delivery) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)
        await delivery.emit("order.billed")

    await traced.emit("order.placed")
    await deliver(traced)
    process = spans.one("process order.placed")
    assert current == [id_of(process)] * 2
    child = spans.one("emit order.billed")
    assert child.parent is not None
    assert child.parent.span_id == id_of(process)
    assert attributes(child)["messaging.message.conversation_id"] == attributes(process)["messaging.message.id"]


async def test_worker_that_was_started_in_a_span_has_no_spans_in_it(traced: OutboxEventBus, spans: Spans) -> None:
    recorder = Recorder()
    traced.on("order.placed", recorder)
    with spans.provider.get_tracer("test").start_as_current_span("startup"):
        await traced.start()
    await traced.emit("order.placed")
    await traced.drain(timeout=5)
    await traced.stop()
    assert spans.one("process order.placed").parent is None


async def test_events_of_one_call_share_a_span(traced: OutboxEventBus, spans: Spans) -> None:
    traced.subscribe(["a", "b"], Recorder())
    await traced.emit_many([Event("a"), Event("a")])
    await traced.emit_many([Event("a"), Event("b")])
    alike, mixed = spans.one("emit a"), spans.one("emit")
    assert attributes(alike)["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in attributes(alike)
    assert "messaging.destination.name" not in attributes(mixed)
    await deliver(traced)
    linked = [links(span) for span in spans.named("process a")]
    assert sorted(linked) == sorted([[id_of(alike)], [id_of(alike)], [id_of(mixed)]])


async def test_event_of_a_transaction_has_the_context_of_its_emit(traced: OutboxEventBus, spans: Spans) -> None:
    tracer = spans.provider.get_tracer("test")
    traced.on("order.placed", Recorder())
    async with traced.transaction() as tx:
        with tracer.start_as_current_span("validate"):
            tx.emit("order.placed")
        with tracer.start_as_current_span("bill"):
            await traced.emit("order.placed", transaction=tx)
    first, second = spans.named("create order.placed")
    for create, outer in ((first, "validate"), (second, "bill")):
        assert create.kind is SpanKind.PRODUCER
        assert create.parent is not None
        assert create.parent.span_id == id_of(spans.one(outer))
    commit = spans.one("commit order.placed")
    assert commit.kind is SpanKind.CLIENT
    assert sorted(links(commit)) == sorted([id_of(first), id_of(second)])
    await deliver(traced)
    assert sorted(links(span)[0] for span in spans.named("process order.placed")) == sorted(links(commit))


async def test_transaction_without_events_has_no_span(traced: OutboxEventBus, spans: Spans) -> None:
    async with traced.transaction() as tx:
        tx.put(TableName="orders", Item={"id": "1"})
    assert spans.all == []


async def test_context_that_the_user_gave_is_kept(traced: OutboxEventBus, spans: Spans) -> None:
    recorder = Recorder()
    traced.on("order.placed", recorder)
    await traced.emit("order.placed", metadata={"traceparent": TRACEPARENT, "tenant": 5})
    async with traced.transaction() as tx:
        tx.emit("order.placed", metadata={"traceparent": TRACEPARENT})
    await deliver(traced)
    assert [event.metadata["traceparent"] for event in recorder.events] == [TRACEPARENT] * 2
    emit = spans.one("emit order.placed")
    assert emit.kind is SpanKind.CLIENT
    assert links(emit) == [0xB7AD6B7169203331]
    assert spans.named("create order.placed") == []
    assert [links(span) for span in spans.named("process order.placed")] == [links(emit)] * 2


async def test_handlers_link_to_what_the_metadata_say_when_they_begin(traced: OutboxEventBus, spans: Spans) -> None:
    @traced.on("order.placed", max_retries=1)
    async def bill(event: Event) -> None:
        if "-b7ad" in event.metadata["traceparent"]:
            raise ValueError

    for middle in ("b7ad6b7169203331", "00f067aa0ba902b7", "b7ad6b7169203331"):
        metadata = {"traceparent": TRACEPARENT.replace("b7ad6b7169203331", middle)}
        await traced.emit("order.placed", metadata=metadata)
    await traced.emit("order.placed")
    await deliver(traced, 2)
    emits = [id_of(span) for span in spans.named("emit order.placed")]
    found = sorted(links(span)[0] for span in spans.named("process order.placed"))
    assert found == sorted([0xB7AD6B7169203331] * 4 + [0x00F067AA0BA902B7] + emits[3:])


@pytest.mark.parametrize("hostile", [5, None, "", "garbage", ["a"], {"traceparent": TRACEPARENT}, b"\xff"])
async def test_metadata_that_are_no_context_change_nothing(
    traced: OutboxEventBus, spans: Spans, errors: list[Any], hostile: Any
) -> None:
    recorder = Recorder()
    traced.on("order.placed", recorder)
    await traced.emit("order.placed", metadata={"traceparent": hostile, "tracestate": hostile, "baggage": hostile})
    await deliver(traced)
    assert recorder.events[0].metadata["traceparent"] == hostile
    assert links(spans.one("process order.placed")) == []
    assert errors == []


async def test_failed_emit_is_an_error(traced: OutboxEventBus, spans: Spans) -> None:
    await traced.emit("order.placed", id="order-1")
    with pytest.raises(DuplicateEventError):
        await traced.emit("order.placed", id="order-1")
    failed = spans.all[-1]
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed)["error.type"] == "DuplicateEventError"


async def test_traced_event_keeps_its_mark_of_a_new_id(traced: OutboxEventBus) -> None:
    tracing = traced.outbox.observers.instrumentation
    assert tracing is not None
    event = Event("order.placed")
    with tracing.emitting([event], stores=True) as (prepared,):
        assert prepared.metadata.keys() == {"traceparent"}
        assert (prepared.id, prepared.occurred_at) == (event.id, event.occurred_at)
        assert prepared.take_unpublished()
        assert not event.take_unpublished()


async def test_loops_make_no_spans_and_suppress_those_of_the_sdk(
    traced: OutboxEventBus, outbox: ScriptedOutbox, spans: Spans
) -> None:
    suppressed: dict[str, Any] = {}

    for operation in ("publish", "claim", "settle", "recover"):

        async def look(operation: str = operation) -> None:
            suppressed[operation] = context.get_value(SUPPRESSED)

        outbox.script(operation, look)  # type: ignore[arg-type]  # each is an operation

    traced.on("order.placed", Recorder())
    await traced.emit("order.placed")
    await deliver(traced)
    assert suppressed == {"publish": None, "claim": True, "settle": True, "recover": True}
    assert [span.name for span in spans.all] == ["emit order.placed", "process order.placed"]


async def test_spans_of_storage_calls_on_request(bus: OutboxEventBus, outbox: ScriptedOutbox, spans: Spans) -> None:
    instrument(bus, tracer_provider=spans.provider, storage_spans=True)
    current: list[int] = []

    async def look(call: Call | None = None) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    outbox.script("claim", look)
    bus.on("order.placed", Recorder())
    await bus.emit("order.placed")
    await deliver(bus)
    claim, settle = spans.one("claim"), spans.one("settle")
    assert current == [id_of(claim)]
    assert claim.parent is settle.parent is None
    assert attributes(claim)["messaging.operation.type"] == "receive"
    assert attributes(settle)["messaging.operation.type"] == "settle"
