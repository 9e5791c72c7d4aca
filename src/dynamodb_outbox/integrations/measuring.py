"""Makes measurements of observations: which metric, which value, which attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dynamodb_outbox.errors import HandlerTimeoutError
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.metrics import Metric
from dynamodb_outbox.observers import (
    Claimed,
    ClaimRefused,
    EventCompleted,
    EventFailed,
    EventRecovered,
    EventReleased,
    HandlerCancelled,
    HandlerFailed,
    HandlerSucceeded,
    KeyBlocked,
    KeyUnblocked,
    LeaseLost,
    Observation,
    Polled,
    PollingFailed,
    Published,
    PublishFailed,
    RetryScheduled,
    SettleFailed,
    StorageCalled,
    Throttled,
)
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.port import Outbox

Attributes = Mapping[str, str]
Record = Callable[[float], None]
"""Records a value in one time series: a metric, and the values of its attributes."""
MakeSeries = Callable[[Metric, Attributes], Record]
"""Makes a time series of a metric and all attributes. The series begins with its first value."""

MAX_NAMES: Final = 200
"""So many event types, and so many classes of errors, have their own time series. All others share `_other`."""
OTHER: Final = "_other"
OPERATIONS: Final[Mapping[str, tuple[str, str | None]]] = {
    "publish": ("emit", "send"),
    "transact": ("commit", "send"),
    "claim": ("claim", "receive"),
    "settle": ("settle", "settle"),
    "renew": ("renew", "settle"),
    "recover": ("recover", None),
}
"""The `messaging.operation.name` and `.type` of each call of the storage."""


def table_of(outbox: Outbox) -> str:
    """Return the table of an outbox, for `outbox.table`; `memory` if it has none."""
    return str(getattr(outbox, "table_name", "memory"))


class Names:
    """Lets a limited number of different names through, so that made-up names cannot fill a metrics backend."""

    def __init__(self, most: int = MAX_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def limited(self, name: str) -> str:
        """Return the name, or `_other` if there are too many already."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name


def error_type(error: BaseException) -> str:
    """Name the class of an error, with its module unless it is built in or the library's own."""
    cls = type(error)
    name = cls.__qualname__.replace("<locals>.", "")
    return name if cls.__module__.partition(".")[0] in {"builtins", "dynamodb_outbox"} else f"{cls.__module__}.{name}"


def outcome_of(error: BaseException) -> str:
    """Name the outcome of a handler that raised, or that the worker ended."""
    match error:
        case Reject():
            return "rejected"
        case RetryLater():
            return "retry_later"
        case HandlerTimeoutError():
            return "timed_out"
        case Exception():
            return "failed"
        case _:
            return "cancelled"


class _OfType:
    """The time series of an event type that nearly every event has values in."""

    __slots__ = ("claimed", "completed", "critical", "emitted", "name", "succeeded", "wait")

    def __init__(self, name: str, series: Callable[..., Record]) -> None:
        own = (metrics.TYPE, name)
        self.name = name
        self.emitted = series(metrics.SENT, metrics.OPERATION, "emit", *own)
        self.claimed = series(metrics.CONSUMED, metrics.OPERATION, "claim", *own)
        self.wait = series(metrics.WAIT_DURATION, *own)
        self.completed = series(metrics.COMPLETED, *own)
        self.critical = series(metrics.CRITICAL_DURATION, *own)
        self.succeeded: dict[str, Record] = {}
        """The durations of the calls that succeeded, by the name of the handler."""


class Measuring:
    """An observer that measures. `clock` is the clock of the outbox, in epoch seconds.

    Each event makes six measurements. So a time series is made once, and kept with its attributes.
    """

    def __init__(self, make_series: MakeSeries, *, table: str, clock: Callable[[], float]) -> None:
        self._make_series = make_series
        self._clock = clock
        self.common: Attributes = {metrics.SYSTEM: metrics.SYSTEM_NAME, metrics.TABLE: table}
        """The attributes that all metrics have."""
        self._types = Names()
        self._errors = Names()
        self._made: dict[tuple[str | None, ...], Record] = {}
        self._of_types: dict[str, _OfType] = {}
        self.measures: Mapping[type, Callable[[Any], None]] = {
            Published: self._published,
            PublishFailed: self._publish_failed,
            Claimed: self._claimed,
            HandlerSucceeded: self._succeeded,
            HandlerFailed: self._handler_failed,
            HandlerCancelled: self._cancelled,
            EventCompleted: self._completed,
            EventFailed: self._failed,
            RetryScheduled: self._retried,
            EventReleased: self._released,
            EventRecovered: self._recovered,
            KeyBlocked: self._key_blocked,
            KeyUnblocked: self._key_unblocked,
            Polled: self._polled,
            StorageCalled: self._stored,
            LeaseLost: self._lease_lost,
            ClaimRefused: self._claim_refused,
            PollingFailed: self._polling_failed,
            SettleFailed: self._settle_failed,
            Throttled: self._throttled,
        }
        """What each kind of observation adds to the metrics."""

    def __call__(self, observation: Observation, /) -> None:
        """Measure an observation."""
        measure = self.measures.get(type(observation))
        if measure is not None:
            measure(observation)

    def _series(self, metric: Metric, *given: str | None) -> Record:
        """Find the time series of names and values in turn, without the values that are None."""
        key = (metric.name, *given)
        made = self._made.get(key)
        if made is None:
            own = {name: value for name, value in zip(given[::2], given[1::2], strict=True) if name and value}
            made = self._made[key] = self._make_series(metric, {**self.common, **own})
        return made

    def _of(self, event_type: str) -> _OfType:
        found = self._of_types.get(event_type)
        if found is None:
            name = self._types.limited(event_type)
            found = self._of_types.get(name)
            if found is None:
                found = self._of_types[name] = _OfType(name, self._series)
        return found

    def start_counting(self, event_type: str) -> None:
        """Add 0 to the counters of a type: Prometheus sees no increase of a counter that did not exist before."""
        own = (metrics.TYPE, self._of(event_type).name)
        for metric in (metrics.COMPLETED, metrics.RETRIED, metrics.LEASE_LOST, metrics.KEY_BLOCKED):
            self._series(metric, *own)(0)
        for reason in ("rejected", "retries_exhausted", "unhandled"):
            self._series(metrics.FAILED, *own, metrics.REASON, reason)(0)

    def start(self) -> None:
        """Add 0 to the counters that have no type."""
        for reason in ("lease_expired", "unreadable"):
            self._series(metrics.FAILED, metrics.TYPE, "?", metrics.REASON, reason)(0)
        for repair in ("retry", "skip", "discard", "completed"):
            self._series(metrics.KEY_UNBLOCKED, metrics.REASON, repair)(0)
        for metric in (metrics.RECOVERED, metrics.CLAIM_REFUSED):
            self._series(metric)(0)

    # One method for each kind of observation

    def _published(self, seen: Published) -> None:
        (self._of_types.get(seen.event_type) or self._of(seen.event_type)).emitted(1)

    def _publish_failed(self, seen: PublishFailed) -> None:
        own = (metrics.OPERATION, "emit", metrics.TYPE, self._of(seen.event_type).name)
        self._series(metrics.SENT, *own, metrics.ERROR, self._error(seen.error))(1)

    def _claimed(self, seen: Claimed) -> None:
        of_type = self._of_types.get(seen.event_type) or self._of(seen.event_type)
        of_type.claimed(1)
        if seen.attempt == 1 and seen.due_at is not None:
            of_type.wait(max(self._clock() - seen.due_at, 0.0))

    def _succeeded(self, seen: HandlerSucceeded) -> None:
        of_type = self._of_types.get(seen.event_type) or self._of(seen.event_type)
        duration = of_type.succeeded.get(seen.handler)
        if duration is None:
            duration = of_type.succeeded[seen.handler] = self._handled(of_type.name, seen.handler, "succeeded", None)
        duration(seen.seconds)

    def _handler_failed(self, seen: HandlerFailed) -> None:
        outcome = outcome_of(seen.error) if isinstance(seen.error, Exception) else "failed"
        error = None if outcome == "retry_later" else seen.error
        self._handled(self._of(seen.event_type).name, seen.handler, outcome, error)(seen.seconds)

    def _cancelled(self, seen: HandlerCancelled) -> None:
        self._handled(self._of(seen.event_type).name, seen.handler, "cancelled", None)(seen.seconds)

    def _handled(self, type_name: str, handler: str, outcome: str, error: BaseException | None) -> Record:
        own = (metrics.OPERATION, "process", metrics.TYPE, type_name)
        handled = (metrics.HANDLER, handler, metrics.OUTCOME, outcome, metrics.ERROR, self._error(error))
        return self._series(metrics.PROCESS_DURATION, *own, *handled)

    def _completed(self, seen: EventCompleted) -> None:
        of_type = self._of_types.get(seen.event_type) or self._of(seen.event_type)
        of_type.completed(1)
        of_type.critical(max(self._clock() - seen.occurred_at.timestamp(), 0.0))

    def _failed(self, seen: EventFailed) -> None:
        own = (metrics.TYPE, self._of(seen.event_type).name, metrics.REASON, seen.reason)
        self._series(metrics.FAILED, *own)(1)

    def _retried(self, seen: RetryScheduled) -> None:
        self._series(metrics.RETRIED, metrics.TYPE, self._of(seen.event_type).name)(1)

    def _released(self, seen: EventReleased) -> None:
        own = (metrics.TYPE, self._of(seen.event_type).name)
        reason = "unhandled" if seen.unhandled else "held" if seen.held else "stop"
        self._series(metrics.RELEASED, *own, metrics.REASON, reason)(1)

    def _recovered(self, seen: EventRecovered) -> None:
        self._series(metrics.RECOVERED)(1)

    def _key_blocked(self, seen: KeyBlocked) -> None:
        self._series(metrics.KEY_BLOCKED, metrics.TYPE, self._of(seen.event_type).name)(1)

    def _key_unblocked(self, seen: KeyUnblocked) -> None:
        self._series(metrics.KEY_UNBLOCKED, metrics.REASON, seen.repair)(1)

    def _polled(self, seen: Polled) -> None:
        self._series(metrics.LAST_POLL_TIME)(self._clock())
        self._series(metrics.SLOTS)(seen.slots)
        self._series(metrics.SLOTS_USED)(seen.slots_taken)

    def _stored(self, seen: StorageCalled) -> None:
        name, kind = OPERATIONS.get(seen.operation, (seen.operation, None))
        own = (metrics.OPERATION, name, metrics.OPERATION_TYPE, kind, metrics.ERROR, self._error(seen.error))
        self._series(metrics.OPERATION_DURATION, *own)(seen.seconds)

    def _lease_lost(self, seen: LeaseLost) -> None:
        self._series(metrics.LEASE_LOST, metrics.TYPE, self._of(seen.event_type).name)(1)

    def _claim_refused(self, seen: ClaimRefused) -> None:
        self._series(metrics.CLAIM_REFUSED)(1)

    def _polling_failed(self, seen: PollingFailed) -> None:
        own = (metrics.LOOP, seen.loop, metrics.ERROR, self._error(seen.error))
        self._series(metrics.POLL_ERRORS, *own)(1)

    def _settle_failed(self, seen: SettleFailed) -> None:
        own = (metrics.OUTCOME, seen.outcome, metrics.ERROR, self._error(seen.error))
        self._series(metrics.SETTLE_ERRORS, *own)(1)

    def _throttled(self, seen: Throttled) -> None:
        self._series(metrics.THROTTLES, metrics.CALL, seen.operation)(1)

    def _error(self, error: BaseException | None) -> str | None:
        return None if error is None else self._errors.limited(error_type(error))
