"""Metrics: what each step adds to which time series, and under which names Prometheus sees them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from dynamodb_outbox import DuplicateEventError, Event, OutboxEventBus, Reject, RetryLater, UnavailableError, sampling
from dynamodb_outbox.integrations import metrics as table
from dynamodb_outbox.integrations.measuring import MAX_NAMES, OTHER, Names, error_type
from dynamodb_outbox.integrations.metrics import METRICS, label_of
from dynamodb_outbox.integrations.opentelemetry import instrument
from dynamodb_outbox.observers import ClaimRefused, LeaseLost, Throttled
from dynamodb_outbox.stored_events import Count, Sample
from tests.fakes import Recorder, ScriptedOutbox
from tests.telemetry.conftest import Metrics
from tests.virtual_time import VirtualTime

DOWN = UnavailableError(operation="query", attempts=1, reason="down", maybe_applied=False)


class Sampled(ScriptedOutbox):
    """An outbox whose sample a test sets."""

    found: Sample

    async def sample(self, *, count_limit: int = 1_000) -> Sample:
        return self.found


def sample(at: datetime) -> Sample:
    few = Count(at_least=3, is_exact=True)
    return Sample(
        at=at,
        due=Count(at_least=1000, is_exact=False),
        scheduled=few,
        processing=few,
        expired=few,
        failed=Count(at_least=2, is_exact=True),
        held=few,
        oldest_due=at - timedelta(seconds=90),
        oldest_expired=at - timedelta(seconds=5),
    )


async def test_successful_event(measured: OutboxEventBus, metrics: Metrics) -> None:
    measured.on("order.placed", Recorder(), name="bill")
    await measured.emit("order.placed")
    await anyio.sleep(3)
    await measured.run_once()
    of_type = {"messaging__destination__name": "order.placed"}
    assert metrics.value("messaging.client.sent.messages", **of_type) == 1
    assert metrics.value("messaging.client.consumed.messages", **of_type) == 1
    handled = {"messaging__destination__subscription__name": "bill", "outbox__outcome": "succeeded"}
    assert metrics.value("messaging.process.duration", **of_type, **handled) == 1
    assert metrics.value("dynamodb_outbox.event.completed", **of_type) == 1
    ((_, wait),) = metrics.points("dynamodb_outbox.event.wait.duration")
    assert (wait.count, wait.sum) == (1, pytest.approx(3, abs=0.01))
    for name, kind in (("emit", "send"), ("claim", "receive"), ("settle", "settle")):
        called = {"messaging__operation__name": name, "messaging__operation__type": kind}
        assert metrics.value("messaging.client.operation.duration", **called) == 1


async def test_wait_is_measured_for_the_first_attempt_only(measured: OutboxEventBus, metrics: Metrics) -> None:
    @measured.on("order.placed")
    async def bill(event: Event) -> None:
        raise ValueError("no address")

    await measured.emit("order.placed")
    for _ in range(2):
        await measured.run_once()
        await anyio.sleep(1)
    ((_, wait),) = metrics.points("dynamodb_outbox.event.wait.duration")
    assert wait.count == 1
    assert metrics.value("dynamodb_outbox.event.retried", messaging__destination__name="order.placed") == 2


async def test_critical_time_of_a_clock_that_is_ahead_is_zero(
    measured: OutboxEventBus, metrics: Metrics, virtual_time: VirtualTime
) -> None:
    measured.on("order.placed", Recorder())
    ahead = datetime.fromtimestamp(virtual_time.clock() + 60, UTC)
    await measured.emit("order.placed", occurred_at=ahead)
    await measured.run_once()
    ((_, critical),) = metrics.points("dynamodb_outbox.event.critical.duration")
    assert (critical.count, critical.sum) == (1, 0)


@pytest.mark.parametrize(
    ("error", "outcome", "name"),
    [
        (ValueError("secret"), "failed", "ValueError"),
        (Reject("secret"), "rejected", "Reject"),
        (RetryLater(5, "secret"), "retry_later", None),
    ],
)
async def test_outcome_of_a_handler(
    measured: OutboxEventBus, metrics: Metrics, error: Exception, outcome: str, name: str | None
) -> None:
    @measured.on("order.placed")
    async def bill(event: Event) -> None:
        raise error

    await measured.emit("order.placed")
    await measured.run_once()
    ((found, _),) = metrics.points("messaging.process.duration")
    assert found["outbox.outcome"] == outcome
    assert found.get("error.type") == name


async def test_reasons_of_failed_events(measured: OutboxEventBus, outbox: ScriptedOutbox, metrics: Metrics) -> None:
    @measured.on("rejected")
    async def reject(event: Event) -> None:
        raise Reject("no use")

    @measured.on("exhausted", max_retries=0)
    async def exhaust(event: Event) -> None:
        raise ValueError

    await measured.emit("rejected")
    await measured.emit("exhausted")
    await measured.run_once()
    for event_type, reason in (("rejected", "rejected"), ("exhausted", "retries_exhausted")):
        own = {"messaging__destination__name": event_type, "outbox__reason": reason}
        assert metrics.value("dynamodb_outbox.event.failed", **own) == 1


async def test_event_of_a_dead_worker_without_retries_is_a_failed_one(metrics: Metrics) -> None:
    outbox = ScriptedOutbox(max_retries=0)
    bus = OutboxEventBus(outbox)
    instrument(bus, meter_provider=metrics.provider)
    await bus.emit("order.placed")
    await outbox.claim(1)
    await anyio.sleep(31)
    await bus.run_once()
    expired = {"messaging__destination__name": "?", "outbox__reason": "lease_expired"}
    assert metrics.value("dynamodb_outbox.event.failed", **expired) == 1
    assert metrics.value("dynamodb_outbox.event.recovered") == 1


async def test_failed_emits(measured: OutboxEventBus, outbox: ScriptedOutbox, metrics: Metrics) -> None:
    await measured.emit("order.placed", id="order-1")
    with pytest.raises(DuplicateEventError):
        await measured.emit("order.placed", id="order-1")
    await measured.emit("order.placed", id="order-1", if_exists="ignore")
    outbox.fail("publish", DOWN, nth=1)
    with pytest.raises(UnavailableError):
        await measured.emit("order.placed")
    sent = {found.get("error.type"): point.value for found, point in metrics.points("messaging.client.sent.messages")}
    assert sent == {None: 1, "DuplicateEventError": 1, "UnavailableError": 1}


async def test_worker_and_its_troubles(measured: OutboxEventBus, outbox: ScriptedOutbox, metrics: Metrics) -> None:
    measured.on("order.placed", Recorder())
    outbox.fail("claim", DOWN, nth=2)
    outbox.refuse("settle", DOWN, nth=1)
    async with measured:
        await outbox.called("claim", 4)
        await measured.emit("order.placed")
        await outbox.called("settle")
        await anyio.sleep(0.1)
    of_loop = {"outbox__loop": "polling", "error__type": "UnavailableError"}
    assert metrics.value("dynamodb_outbox.poll.errors", **of_loop) == 1
    settled = {"outbox__outcome": "complete", "error__type": "UnavailableError"}
    assert metrics.value("dynamodb_outbox.settle.errors", **settled) == 1
    refused = {"messaging__operation__name": "settle", "error__type": "UnavailableError"}
    assert metrics.value("messaging.client.operation.duration", **refused) == 1
    assert metrics.value("dynamodb_outbox.worker.slots") == outbox.options.slots
    assert metrics.value("dynamodb_outbox.worker.last_poll.time") == pytest.approx(outbox.options.clock(), abs=2)


async def test_slots_are_used_while_handlers_run(measured: OutboxEventBus, metrics: Metrics) -> None:
    started = anyio.Event()

    @measured.on("order.placed")
    async def bill(event: Event) -> None:
        started.set()
        await anyio.sleep(1)

    await measured.emit("order.placed")
    async with measured:
        await started.wait()
        await anyio.sleep(0.5)
        assert metrics.value("dynamodb_outbox.worker.slots.used") == 1
    assert metrics.value("dynamodb_outbox.worker.slots.used") <= 1


async def test_counters_exist_before_their_first_event(measured: OutboxEventBus, metrics: Metrics) -> None:
    measured.on("order.placed", Recorder())
    await measured.run_once()
    of_type = {"messaging__destination__name": "order.placed"}
    assert metrics.value("dynamodb_outbox.event.completed", **of_type) == 0
    for reason in ("rejected", "retries_exhausted", "unhandled"):
        assert metrics.value("dynamodb_outbox.event.failed", **of_type, outbox__reason=reason) == 0
    measured.on("order.billed", Recorder())
    await measured.run_once()
    assert metrics.value("dynamodb_outbox.event.completed", messaging__destination__name="order.billed") == 0


async def test_sample_and_its_absence(
    metrics: Metrics, virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "monotonic", virtual_time.time)
    outbox = Sampled()
    bus = OutboxEventBus(outbox)
    instrument(bus, meter_provider=metrics.provider)
    assert metrics.points("dynamodb_outbox.events") == metrics.points("dynamodb_outbox.sample.time") == []
    outbox.found = sample(datetime(2026, 1, 2, tzinfo=UTC))
    await bus.sampler.get()
    assert metrics.value("dynamodb_outbox.events", outbox__status="due") == 1000
    assert metrics.value("dynamodb_outbox.events", outbox__status="failed") == 2
    assert len(metrics.points("dynamodb_outbox.events")) == 6
    assert metrics.value("dynamodb_outbox.oldest_due.age") == 90
    assert metrics.value("dynamodb_outbox.oldest_expired_lease.age") == 5
    await anyio.sleep(3600)
    assert metrics.points("dynamodb_outbox.events") == metrics.points("dynamodb_outbox.oldest_due.age") == []
    at = outbox.found.at.timestamp()
    assert metrics.value("dynamodb_outbox.sample.time") == at


async def test_blocked_keys_have_no_value_while_they_are_unknown(metrics: Metrics) -> None:
    outbox = Sampled()
    bus = OutboxEventBus(outbox)
    instrument(bus, meter_provider=metrics.provider)
    outbox.found = replace(sample(datetime.now(UTC)), blocked_keys=Count(at_least=0, is_exact=False))
    await bus.sampler.get()
    assert metrics.value("dynamodb_outbox.events", outbox__status="failed") == 2
    assert metrics.points("dynamodb_outbox.blocked_keys") == []


async def scrape_everything(bus: OutboxEventBus, registry: CollectorRegistry) -> list[Family]:
    """Let each metric have a value, and collect them as a scrape does."""
    outbox = bus.outbox
    assert isinstance(outbox, Sampled)
    outbox.found = sample(datetime.now(UTC))
    await bus.sampler.get()

    @bus.on("order.placed", max_retries=1)
    async def bill(event: Event) -> None:
        if event.payload == "bad":
            raise ValueError("secret-error")

    outbox.fail("claim", DOWN, nth=2)
    outbox.refuse("settle", DOWN, nth=2)
    async with bus:
        await bus.emit_many([Event("order.placed", "bad", id="secret-1"), Event("order.placed", id="secret-2")])
        await anyio.sleep(5)
    for observation in (
        Throttled(operation="query"),
        ClaimRefused(event_id="secret-1"),
        LeaseLost(event_id="secret-1", event_type="order.placed"),
    ):
        outbox.observers.notify(observation)
    await anyio.sleep(60)
    await bus.emit("unknown")
    await bus.run_once()
    return [family for family in registry.collect() if family.name != "target"]


@pytest.fixture
async def scraped(virtual_time: VirtualTime) -> list[Family]:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, disable_target_info=True, registry=registry)
    bus = OutboxEventBus(Sampled(poll_interval=0.01, base_backoff=0.01, processing_timeout=5), on_error=lambda _: None)
    instrument(bus, meter_provider=MeterProvider([reader]))
    return await scrape_everything(bus, registry)


async def test_prometheus_sees_the_names_of_the_table(scraped: list[Family]) -> None:
    names = {family.name + ("_total" if family.type == "counter" else "") for family in scraped}
    assert names == {metric.prometheus_name for metric in METRICS}


async def test_prometheus_sees_the_labels_of_the_table(scraped: list[Family]) -> None:
    by_name = {metric.prometheus_name: metric for metric in METRICS}
    for family in scraped:
        metric = by_name[family.name + ("_total" if family.type == "counter" else "")]
        known = {label_of(name) for name in (*metric.attributes, table.SYSTEM, table.TABLE)}
        labels = {label for each in family.samples for label in each.labels}
        assert labels - {"le"} <= known, metric.name
        assert {label_of(table.SYSTEM), label_of(table.TABLE)} <= labels, metric.name


async def test_no_label_has_an_id_or_the_text_of_an_error(scraped: list[Family]) -> None:
    values = {value for family in scraped for each in family.samples for value in each.labels.values()}
    assert [value for value in values if "secret" in value] == []
    assert "order.placed" in values


async def test_histograms_have_the_buckets_of_the_table(scraped: list[Family]) -> None:
    by_name = {metric.prometheus_name: metric for metric in METRICS}
    histograms = [family for family in scraped if family.type == "histogram"]
    assert len(histograms) == 4
    for family in histograms:
        found = {float(each.labels["le"]) for each in family.samples if "le" in each.labels}
        assert found == {*by_name[family.name].buckets, float("inf")}


def test_made_up_names_share_one_time_series() -> None:
    names = Names()
    assert [names.limited(f"type-{number}") for number in range(MAX_NAMES + 2)][-3:] == ["type-199", OTHER, OTHER]
    assert names.limited("type-0") == "type-0"


async def test_events_of_too_many_types_are_counted_together(measured: OutboxEventBus, metrics: Metrics) -> None:
    await measured.emit_many([Event(f"type-{number}") for number in range(MAX_NAMES + 2)])
    await measured.emit("type-0")
    points = metrics.points("messaging.client.sent.messages")
    sent = {found["messaging.destination.name"]: point.value for found, point in points}
    assert len(points) == len(sent) == MAX_NAMES + 1
    assert (sent["type-0"], sent["type-1"], sent[OTHER]) == (2, 1, 2)


class _BrokenError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "name"),
    [(KeyError(), "KeyError"), (DOWN, "UnavailableError"), (_BrokenError(), f"{__name__}._BrokenError")],
)
def test_name_of_an_error(error: Any, name: str) -> None:
    assert error_type(error) == name
