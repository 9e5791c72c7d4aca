"""Values of histograms are kept, and given to the SDK many at a time: each value once, and all before it collects."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.integrations.opentelemetry import MAX_KEPT, KeptValues, uninstrument
from tests.telemetry.conftest import Metrics, Spans


async def test_each_value_is_given_to_the_sdk_once(measured: OutboxEventBus, metrics: Metrics) -> None:
    many = MAX_KEPT + 3  # three values of each event, so that the SDK gets some of them at once, and some when it asks

    @measured.on("order.placed", name="bill")
    async def bill(event: Event) -> None: ...

    await measured.emit_many([Event("order.placed") for _ in range(many)])
    while await measured.run_once():
        pass
    for _ in range(2):
        for name in ("messaging.process.duration", "dynamodb_outbox.event.critical.duration"):
            assert metrics.value(name) == many


async def test_values_before_the_end_of_the_measuring_are_given_to_the_sdk(
    measured: OutboxEventBus, metrics: Metrics
) -> None:
    @measured.on("order.placed", name="bill")
    async def bill(event: Event) -> None: ...

    await measured.emit("order.placed")
    await measured.run_once()
    uninstrument(measured)
    assert metrics.value("messaging.process.duration") == 1


async def test_values_are_exemplars_of_the_span_in_which_they_were_measured(
    measured: OutboxEventBus, metrics: Metrics, spans: Spans
) -> None:
    @measured.on("order.placed", name="bill")
    async def bill(event: Event) -> None: ...

    tracer = spans.provider.get_tracer("shop")
    with tracer.start_as_current_span("request"):
        await measured.emit("order.placed")
    while await measured.run_once():
        pass
    with tracer.start_as_current_span("scrape"):
        points = metrics.collect()
    exemplars = [(name, each.span_id) for name, point in points for each in getattr(point, "exemplars", ())]
    # The emit alone was measured in a span.
    assert exemplars == [("messaging.client.operation.duration", spans.one("request").context.span_id)]


def test_threads_that_give_values_at_once_give_each_value_once() -> None:
    given: list[float] = []
    values = KeptValues()
    keep = values.series(lambda value, context: given.append(value))
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(lambda: [values.give() for _ in range(2000)]) for _ in range(3)]
        for number in range(20_000):
            keep(number)
        for each in asked:
            each.result()
    values.give()
    assert sorted(given) == list(range(20_000))
