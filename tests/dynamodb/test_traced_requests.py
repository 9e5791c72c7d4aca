"""Requests are made inside of the spans of the library, where an instrumentation of the AWS SDK finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiobotocore.client import AioBaseClient
from opentelemetry import context, trace

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import instrument, uninstrument
from dynamodb_outbox.integrations.tracing import SUPPRESSED
from tests.telemetry.conftest import Spans


@dataclass(frozen=True)
class Request:
    operation: str
    span: int
    is_suppressed: bool


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests as an instrumentation of aiobotocore sees them: it wraps the same method."""
    seen: list[Request] = []
    make = AioBaseClient._make_api_call

    async def watched(self: Any, operation: str, arguments: Any) -> Any:
        span = trace.get_current_span().get_span_context().span_id
        seen.append(Request(operation, span, bool(context.get_value(SUPPRESSED))))
        return await make(self, operation, arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", watched)
    return seen


@pytest.fixture(params=[False, True], ids=["without storage spans", "with storage spans"])
async def traced(
    request: pytest.FixtureRequest, moto_client: Any, table_name: str, requests: list[Request]
) -> AsyncIterator[tuple[OutboxEventBus, Spans, bool]]:
    outbox = DynamoDBOutbox(moto_client, table_name=table_name, conditional_writes="single")
    await outbox.create_table()
    bus, spans = OutboxEventBus(outbox), Spans()
    instrument(bus, tracer_provider=spans.provider, storage_spans=request.param)
    requests.clear()
    yield bus, spans, request.param
    uninstrument(bus)


async def test_requests_are_inside_the_spans(
    traced: tuple[OutboxEventBus, Spans, bool], moto_client: Any, table_name: str, requests: list[Request]
) -> None:
    bus, spans, has_storage_spans = traced

    @bus.on("order.placed")
    async def bill(event: Event) -> None:
        await moto_client.describe_table(TableName=table_name)

    await bus.emit("order.placed", id="order-1")
    async with bus.transaction() as tx:
        tx.emit("order.paid", id="order-2")
    in_emits = {request.operation: request.span for request in requests}
    requests.clear()
    assert await bus.run_once() > 0

    ids = {span.name: span.context.span_id for span in spans.all if span.context is not None}
    assert in_emits == {"PutItem": ids["emit order.placed"], "TransactWriteItems": ids["commit order.paid"]}
    in_handlers = [request for request in requests if request.operation == "DescribeTable"]
    assert in_handlers == [Request("DescribeTable", ids["process order.placed"], is_suppressed=False)]
    in_loops = [request for request in requests if request.operation != "DescribeTable"]
    assert {"Query", "UpdateItem"} <= {request.operation for request in in_loops}
    assert all(request.is_suppressed is not has_storage_spans for request in in_loops)
    around = [span for name in ("claim", "settle", "recover") for span in spans.named(name)]
    assert bool(around) is has_storage_spans
    of_storage = {request.span for request in in_loops if request.operation in {"Query", "UpdateItem"}}
    assert of_storage == ({span.context.span_id for span in around} if has_storage_spans else {0})
