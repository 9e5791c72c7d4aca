"""CloudWatch metrics by the embedded metric format: JSON lines in the log, which CloudWatch Logs turns into metrics.

    from dynamodb_outbox.integrations.emf import EmfObserver

    bus.add_observer(EmfObserver(bus))

It needs no library and makes no request. AWS Lambda, and the `awslogs` driver of ECS, send standard output to the log.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event_states import LISTED
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.measuring import Attributes, Measuring, Record, table_of
from dynamodb_outbox.integrations.metrics import Metric
from dynamodb_outbox.observers import Observation
from dynamodb_outbox.validation import check_bool, check_callable, check_seconds
from dynamodb_outbox.wording import shown

__all__ = ["EmfObserver"]

MAX_VALUES: Final = 100
"""The most values of one metric in a line, which is the limit of the format."""
ERRORS: Final = ".errors"
_UNITS: Final[Mapping[str, str]] = {"s": "Seconds"}
_IN_NAME: Final = (metrics.STATUS, metrics.OPERATION)
"""The attributes whose values are a part of the name of a metric: as a dimension, each costs as much."""


class EmfObserver:
    """An observer that writes one JSON line a minute for the table, and one for each event type.

    The metrics have the names of the OpenTelemetry integration and the dimensions `table` and `type`. The names of
    states and of operations come after the name: `dynamodb_outbox.events.failed`. Errors are counted apart:
    `messaging.process.errors`. Of a duration, a line has 100 values at most, chosen at random.

    Lines are written by the observations themselves, so call `flush` before the process ends, and before a function
    such as AWS Lambda returns.

    Args:
        bus: The bus; its sampler adds the metrics of the table.
        namespace: The namespace in CloudWatch.
        interval: The seconds from one group of lines to the next, up to an hour.
        by_type: Whether there are metrics of each event type. CloudWatch charges for each metric of each type.
        write: Writes one line. `None` means to standard output.
    """

    def __init__(
        self,
        bus: OutboxEventBus,
        *,
        namespace: str = "DynamoDBOutbox",
        interval: float = 60.0,
        by_type: bool = True,
        write: Callable[[str], object] | None = None,
    ) -> None:
        if not isinstance(namespace, str) or not namespace:
            raise ConfigurationError(f"namespace={shown(namespace)}: it must be a string that is not empty")
        check_seconds("interval", interval, 1, 3600)
        check_bool("by_type", by_type)
        if write is not None:
            check_callable("write", write)
        self._bus = bus
        self._namespace = namespace
        self._interval = interval
        self._by_type = by_type
        self._write = write or _write_to_stdout
        self._clock = bus.outbox.options.clock
        self._table = table_of(bus.outbox)
        self._measuring = Measuring(self._series, table=self._table, clock=self._clock)
        self._random = random.Random()
        self._collected: defaultdict[str, dict[str, _Collected]] = defaultdict(dict)
        self._begun_at = self._clock()
        bus.sampler.want()

    def __call__(self, observation: Observation, /) -> None:
        """Collect an observation, and write the lines once the interval is over."""
        self._measuring(observation)
        if not 0 <= self._clock() - self._begun_at < self._interval:
            self.flush()

    def flush(self) -> None:
        """Write what was collected since the last lines."""
        self._collect_sample()
        collected, self._collected = self._collected, defaultdict(dict)
        self._begun_at = self._clock()
        for event_type, found in collected.items():
            self._write(json.dumps(self._line(event_type, found)))

    def _series(self, metric: Metric, attributes: Attributes) -> Record:
        return partial(self._record, metric, attributes)

    def _record(self, metric: Metric, attributes: Attributes, value: float) -> None:
        if metric.name.endswith(".time"):
            return  # CloudWatch cannot compare a time with now; a missing metric says the same
        event_type = attributes.get(metrics.TYPE, "") if self._by_type else ""
        name = ".".join([metric.name, *(attributes[key] for key in _IN_NAME if key in attributes and _splits(metric))])
        if metrics.ERROR in attributes and not metric.name.endswith(ERRORS):
            self._add(event_type, metric.name.removesuffix(".duration") + ERRORS, "Count", "counter", 1)
            if metric.kind == "counter":
                return
        self._add(event_type, name, _UNITS.get(metric.unit, "Count"), metric.kind, value)

    def _add(self, event_type: str, name: str, unit: str, kind: metrics.Kind, value: float) -> None:
        found = self._collected[event_type].get(name)
        if found is None:
            found = self._collected[event_type][name] = _Collected(unit, kind)
        found.add(value, self._random)

    def _collect_sample(self) -> None:
        self._bus.sampler.want()
        sample = self._bus.sampler.latest
        if sample is None:
            return
        for state in LISTED:
            value = getattr(sample, state.value).at_least
            self._record(metrics.EVENTS, {metrics.STATUS: state.value}, value)
        if not sample.blocked_keys.is_unknown:
            self._record(metrics.BLOCKED_KEYS, {}, sample.blocked_keys.at_least)
        self._record(metrics.OLDEST_DUE_AGE, {}, sample.oldest_due_age)
        self._record(metrics.OLDEST_EXPIRED_AGE, {}, sample.oldest_expired_age)

    def _line(self, event_type: str, found: Mapping[str, _Collected]) -> dict[str, Any]:
        dimensions = {"table": self._table} | ({"type": event_type} if event_type else {})
        # A line of a type counts for the table, too.
        sets = [["table"], ["table", "type"]] if event_type else [["table"]]
        described = {
            "Namespace": self._namespace,
            "Dimensions": sets,
            "Metrics": [{"Name": name, "Unit": each.unit} for name, each in found.items()],
        }
        about = {"Timestamp": round(self._clock() * 1000), "CloudWatchMetrics": [described]}
        return {"_aws": about, **dimensions, **{name: each.result for name, each in found.items()}}


class _Collected:
    """The values of one metric since the last line."""

    def __init__(self, unit: str, kind: metrics.Kind) -> None:
        self.unit = unit
        self._kind = kind
        self._values: list[float] = []
        self._seen = 0

    def add(self, value: float, random: random.Random) -> None:
        """Add to a counter, set a gauge, or keep a value of a histogram, each with the same chance."""
        self._seen += 1
        if self._kind == "counter":
            self._values = [sum(self._values, value)]
        elif self._kind == "gauge":
            self._values = [value]
        elif len(self._values) < MAX_VALUES:
            self._values.append(value)
        elif (place := random.randrange(self._seen)) < MAX_VALUES:
            self._values[place] = value

    @property
    def result(self) -> float | list[float]:
        """The value in the line: a number, or the values of a histogram."""
        return self._values if self._kind == "histogram" else self._values[0]


def _splits(metric: Metric) -> bool:
    return metric in {metrics.EVENTS, metrics.OPERATION_DURATION}


def _write_to_stdout(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
