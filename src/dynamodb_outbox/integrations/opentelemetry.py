"""OpenTelemetry for an outbox: traces that follow an event from its emit to its handlers, and metrics.

    from dynamodb_outbox.integrations.opentelemetry import instrument

    instrument(bus)

It needs `opentelemetry-api`, and an SDK that the application has set up before.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import context, trace
from opentelemetry import metrics as otel_metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import TracerProvider

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event_states import LISTED
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.measuring import Attributes, Measuring, Record, table_of
from dynamodb_outbox.integrations.metrics import METRICS, SCHEMA_URL, SCOPE, Metric
from dynamodb_outbox.integrations.tracing import Tracing
from dynamodb_outbox.observers import HandlerStarted, LeaseRenewed, Observers, Polled
from dynamodb_outbox.observers import Observation as Observed
from dynamodb_outbox.validation import check_bool

__all__ = ["instrument", "uninstrument"]

SAMPLED: Final = (
    metrics.EVENTS,
    metrics.BLOCKED_KEYS,
    metrics.OLDEST_DUE_AGE,
    metrics.OLDEST_EXPIRED_AGE,
    metrics.SAMPLE_TIME,
)
"""The metrics that a sample of the table has."""
MAX_KEPT: Final = 256
"""So many values of histograms are kept before the SDK gets them."""
_NO_SPAN: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())
"""The context of values that no span has caused. In place of an empty context, the SDK takes the current one."""
logger: Final = logging.getLogger("dynamodb_outbox")


def instrument(
    bus: OutboxEventBus,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    parent: bool = False,
    storage_spans: bool = False,
    propagator: TextMapPropagator | None = None,
) -> None:
    """Make spans and metrics of everything that happens in the outbox of a bus.

    Set up the SDK before: without an SDK, nothing is recorded, and nothing is slower.

    Args:
        bus: The bus. All buses of its outbox in this process are instrumented with it.
        tracer_provider: Makes the tracer. `None` means the global provider.
        meter_provider: Makes the meter. `None` means the global provider.
        parent: Makes the span of a handler a child of the span of the emit. By default it begins a new trace, with a
            link to the emit: a handler may run hours after it, and a trace should not last for hours.
        storage_spans: Makes spans of claims, settles, renewals and recoveries too. By default, an instrumentation of
            the AWS SDK makes no spans of them either, because each poll would be a trace.
        propagator: Puts the context into the metadata of an event. `None` means the global propagator without its
            `baggage`, which may be confidential and is stored as long as the event.

    Raises `ConfigurationError` if the outbox is instrumented already.
    """
    check_bool("parent", parent)
    check_bool("storage_spans", storage_spans)
    outbox = bus.outbox
    if outbox.observers in _instrumented:
        raise ConfigurationError("the outbox of this bus is instrumented already; call uninstrument(bus) first")
    tracers = tracer_provider or trace.get_tracer_provider()
    meters = meter_provider or otel_metrics.get_meter_provider()
    if _is_set_up(tracers):
        tracer = tracers.get_tracer(SCOPE, _version(), SCHEMA_URL)
        options: dict[str, Any] = {"parent": parent, "storage_spans": storage_spans, "propagator": propagator}
        outbox.observers.instrumentation = Tracing(tracer, table=table_of(outbox), **options)
    _instrumented[outbox.observers] = _measured(bus, meters) if _is_set_up(meters) else _Instrumented()
    if not outbox.observers and outbox.observers.instrumentation is None:
        logger.info("instrument(bus) records nothing, because OpenTelemetry is not set up; set up its SDK before")


def uninstrument(bus: OutboxEventBus) -> bool:
    """Undo `instrument`; return whether the outbox was instrumented."""
    done = _instrumented.pop(bus.outbox.observers, None)
    if done is None:
        return False
    bus.outbox.observers.instrumentation = None
    if done.observer is not None:
        bus.outbox.observers.remove(done.observer)
        done.observer.stop()
    return True


def _measured(bus: OutboxEventBus, provider: MeterProvider) -> _Instrumented:
    meter = provider.get_meter(SCOPE, _version(), SCHEMA_URL)
    observer = _Meters(bus, meter, table=table_of(bus.outbox))
    bus.outbox.observers.add(observer)
    return _Instrumented(observer)


@dataclass(frozen=True, slots=True)
class _Instrumented:
    observer: _Meters | None = None


_instrumented: Final[WeakKeyDictionary[Observers, _Instrumented]] = WeakKeyDictionary()


class _Meters:
    """The observer that records metrics, and the values that the SDK asks for when it collects.

    Counters are counted here, because that takes a tenth of the time that `Counter.add` of the SDK takes. The values
    of histograms are kept, and given to the SDK many at a time, because each takes half the time then.
    """

    ignored = frozenset({HandlerStarted, LeaseRenewed})

    def __init__(self, bus: OutboxEventBus, meter: Meter, *, table: str) -> None:
        self.is_active = True
        self._bus = bus
        self._records: dict[str, Callable[..., None]] = {}
        self._counts: dict[str, list[_Count]] = {}
        self._values = KeptValues()
        for metric in METRICS:
            self._create(meter, metric)
        self._measuring = Measuring(self._series, table=table, clock=bus.outbox.options.clock)
        self._measures: dict[type, Callable[[Any], None]] = {**self._measuring.measures, Polled: self._polled}
        self._counted: set[str] = set()
        self._sampled_at: float | None = None

    def __call__(self, observation: Observed, /) -> None:
        """Record an observation."""
        measure = self._measures.get(type(observation))
        if measure is not None:
            measure(observation)

    def stop(self) -> None:
        """Give the SDK what it does not have yet, and nothing from now on."""
        self._values.give()
        self.is_active = False

    def _polled(self, observation: Polled) -> None:
        self._start_counting()
        self._measuring(observation)

    def _series(self, metric: Metric, attributes: Attributes) -> Record:
        if metric.kind == "histogram":
            return self._values.series(partial(self._records[metric.name], attributes=attributes))
        if metric.kind != "counter":
            return partial(self._records[metric.name], attributes=attributes)
        count = _Count(attributes)
        self._counts[metric.name].append(count)
        return count.add

    def _create(self, meter: Meter, metric: Metric) -> None:
        described: dict[str, Any] = {"unit": metric.unit, "description": metric.description}
        if metric in SAMPLED:
            meter.create_observable_gauge(metric.name, [partial(self._observe, metric)], **described)
        elif metric.kind == "counter":
            counts = self._counts[metric.name] = []
            meter.create_observable_counter(metric.name, [partial(self._counted_until_now, counts)], **described)
        elif metric.kind == "gauge":
            self._records[metric.name] = meter.create_gauge(metric.name, **described).set
        else:
            histogram = meter.create_histogram(
                metric.name, **described, explicit_bucket_boundaries_advisory=metric.buckets
            )
            self._records[metric.name] = histogram.record

    def _start_counting(self) -> None:
        if not self._counted:
            self._measuring.start()
        for event_type in self._bus.event_types():
            if event_type not in self._counted:
                self._counted.add(event_type)
                self._measuring.start_counting(event_type)

    def _counted_until_now(self, counts: list[_Count], options: CallbackOptions) -> Iterable[Observation]:
        self._values.give()
        # A copy, because the event loop counts on while the SDK collects in its own thread.
        known = [(count.value, count.attributes) for count in list(counts)] if self.is_active else []
        return [Observation(value, attributes, _NO_SPAN) for value, attributes in known if value is not None]

    def _observe(self, metric: Metric, options: CallbackOptions) -> Iterable[Observation]:
        """Read the last sample of the table, without waiting: the SDK calls this in its own thread.

        Without a new sample there is no value, so that a graph has a gap where nothing is known.
        """
        if not self.is_active:
            return
        self._bus.sampler.want()
        sample = self._bus.sampler.latest
        if sample is not None:
            self._sampled_at = sample.at.timestamp()
        common = self._measuring.common
        if metric is metrics.SAMPLE_TIME:
            if self._sampled_at is not None:
                yield Observation(self._sampled_at, common, _NO_SPAN)
        elif metric is metrics.EVENTS and sample is not None:
            for state in LISTED:
                attributes = {**common, metrics.STATUS: state.value}
                yield Observation(getattr(sample, state.value).at_least, attributes, _NO_SPAN)
        elif metric is metrics.BLOCKED_KEYS and sample is not None:
            if not sample.blocked_keys.is_unknown:
                yield Observation(sample.blocked_keys.at_least, common, _NO_SPAN)
        elif sample is not None:
            is_due = metric is metrics.OLDEST_DUE_AGE
            yield Observation(sample.oldest_due_age if is_due else sample.oldest_expired_age, common, _NO_SPAN)


class _Count:
    """One time series of a counter. It has no value before something is counted."""

    __slots__ = ("attributes", "value")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.value: float | None = None

    def add(self, value: float) -> None:
        """Count on."""
        self.value = value if self.value is None else self.value + value


class KeptValues:
    """Values of histograms that the SDK does not have yet. It gets them before it collects, in its own thread.

    Each is given with the context in which it was measured, whose span the SDK may keep as an exemplar of the value.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[Callable[..., None], float, Context]] = deque()

    def series(self, record: Callable[..., None]) -> Record:
        """Return a function that keeps values for `record`."""
        kept = self._kept

        def keep(value: float) -> None:
            kept.append((record, value, context.get_current() or _NO_SPAN))
            if len(kept) >= MAX_KEPT:
                self.give()

        return keep

    def give(self) -> None:
        """Give the values to the SDK. Two threads may do so at the same time: each value is taken once."""
        while self._kept:
            try:
                record, value, measured_in = self._kept.popleft()
            except IndexError:
                return
            record(value, context=measured_in)


def _is_set_up(provider: object) -> bool:
    """Tell whether a provider records: the providers of the API itself do not."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _version() -> str:
    return version("dynamodb-outbox")
