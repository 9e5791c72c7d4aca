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
from dynamodb_outbox.stored_events import EventState

Attributes = Mapping[str, str]
Record = Callable[[Metric, float, Attributes], None]
"""Records one measurement: the metric, the value, and all attributes."""

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


COUNTED: Final = tuple(state for state in EventState if state not in {EventState.COMPLETED, EventState.DISCARDED})
"""The states that a sample counts."""


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


class Measuring:
    """An observer that measures. `clock` is the clock of the outbox, in epoch seconds."""

    def __init__(self, record: Record, *, table: str, clock: Callable[[], float]) -> None:
        self._record = record
        self._clock = clock
        self._common = {metrics.SYSTEM: metrics.SYSTEM_NAME, metrics.TABLE: table}
        self._types = Names()
        self._errors = Names()
        self._made: dict[tuple[str | None, ...], Attributes] = {}
        self._measures: Mapping[type, Callable[[Any], None]] = {
            Published: self._published,
            PublishFailed: self._publish_failed,
            Claimed: self._claimed,
            HandlerSucceeded: self._handled,
            HandlerFailed: self._handled,
            HandlerCancelled: self._handled,
            EventCompleted: self._completed,
            EventFailed: self._failed,
            RetryScheduled: self._retried,
            EventReleased: self._released,
            EventRecovered: self._recovered,
            Polled: self._polled,
            StorageCalled: self._stored,
            LeaseLost: self._lease_lost,
            ClaimRefused: self._claim_refused,
            PollingFailed: self._polling_failed,
            SettleFailed: self._settle_failed,
            Throttled: self._throttled,
        }

    def __call__(self, observation: Observation, /) -> None:
        """Measure an observation."""
        measure = self._measures.get(type(observation))
        if measure is not None:
            measure(observation)

    def attributes(self, *given: str | None) -> Attributes:
        """Make attributes of names and values in turn, without the values that are None. They are made only once."""
        made = self._made.get(given)
        if made is None:
            own = {name: value for name, value in zip(given[::2], given[1::2], strict=True) if name and value}
            made = self._common | own
            if len(self._made) < MAX_NAMES * MAX_NAMES:
                self._made[given] = made
        return made

    def start_counting(self, event_type: str) -> None:
        """Add 0 to the counters of a type: Prometheus sees no increase of a counter that did not exist before."""
        own = (metrics.TYPE, self._types.limited(event_type))
        for metric in (metrics.COMPLETED, metrics.RETRIED, metrics.LEASE_LOST):
            self._record(metric, 0, self.attributes(*own))
        for reason in ("rejected", "retries_exhausted", "unhandled"):
            self._record(metrics.FAILED, 0, self.attributes(*own, metrics.REASON, reason))

    def start(self) -> None:
        """Add 0 to the counters that have no type."""
        for reason in ("lease_expired", "unreadable"):
            self._record(metrics.FAILED, 0, self.attributes(metrics.TYPE, "?", metrics.REASON, reason))
        for metric in (metrics.RECOVERED, metrics.CLAIM_REFUSED):
            self._record(metric, 0, self.attributes())

    # One method for each kind of observation

    def _published(self, seen: Published) -> None:
        self._count_sent(seen.event_type, None)

    def _publish_failed(self, seen: PublishFailed) -> None:
        self._count_sent(seen.event_type, seen.error)

    def _count_sent(self, event_type: str, error: BaseException | None) -> None:
        own = (metrics.OPERATION, "emit", metrics.TYPE, self._types.limited(event_type))
        self._record(metrics.SENT, 1, self.attributes(*own, metrics.ERROR, self._error(error)))

    def _claimed(self, seen: Claimed) -> None:
        own = (metrics.TYPE, self._types.limited(seen.event_type))
        self._record(metrics.CONSUMED, 1, self.attributes(metrics.OPERATION, "claim", *own))
        if seen.attempt == 1 and seen.due_at is not None:
            self._record(metrics.WAIT_DURATION, max(self._clock() - seen.due_at, 0.0), self.attributes(*own))

    def _handled(self, seen: HandlerSucceeded | HandlerFailed | HandlerCancelled) -> None:
        error: BaseException | None = None
        outcome = "succeeded"
        if isinstance(seen, HandlerFailed):
            outcome = outcome_of(seen.error) if isinstance(seen.error, Exception) else "failed"
            error = None if outcome == "retry_later" else seen.error
        elif isinstance(seen, HandlerCancelled):
            outcome = "cancelled"
        own = (metrics.OPERATION, "process", metrics.TYPE, self._types.limited(seen.event_type))
        handled = (metrics.HANDLER, seen.handler, metrics.OUTCOME, outcome, metrics.ERROR, self._error(error))
        self._record(metrics.PROCESS_DURATION, seen.seconds, self.attributes(*own, *handled))

    def _completed(self, seen: EventCompleted) -> None:
        attributes = self.attributes(metrics.TYPE, self._types.limited(seen.event_type))
        self._record(metrics.COMPLETED, 1, attributes)
        seconds = self._clock() - seen.occurred_at.timestamp()
        self._record(metrics.CRITICAL_DURATION, max(seconds, 0.0), attributes)

    def _failed(self, seen: EventFailed) -> None:
        own = (metrics.TYPE, self._types.limited(seen.event_type), metrics.REASON, seen.reason)
        self._record(metrics.FAILED, 1, self.attributes(*own))

    def _retried(self, seen: RetryScheduled) -> None:
        self._record(metrics.RETRIED, 1, self.attributes(metrics.TYPE, self._types.limited(seen.event_type)))

    def _released(self, seen: EventReleased) -> None:
        own = (metrics.TYPE, self._types.limited(seen.event_type))
        reason = "unhandled" if seen.unhandled else "held" if seen.held else "stop"
        self._record(metrics.RELEASED, 1, self.attributes(*own, metrics.REASON, reason))

    def _recovered(self, seen: EventRecovered) -> None:
        self._record(metrics.RECOVERED, 1, self.attributes())

    def _polled(self, seen: Polled) -> None:
        self._record(metrics.LAST_POLL_TIME, self._clock(), self.attributes())
        self._record(metrics.SLOTS, seen.slots, self.attributes())
        self._record(metrics.SLOTS_USED, seen.slots_taken, self.attributes())

    def _stored(self, seen: StorageCalled) -> None:
        name, kind = OPERATIONS.get(seen.operation, (seen.operation, None))
        own = (metrics.OPERATION, name, metrics.OPERATION_TYPE, kind, metrics.ERROR, self._error(seen.error))
        self._record(metrics.OPERATION_DURATION, seen.seconds, self.attributes(*own))

    def _lease_lost(self, seen: LeaseLost) -> None:
        self._record(metrics.LEASE_LOST, 1, self.attributes(metrics.TYPE, self._types.limited(seen.event_type)))

    def _claim_refused(self, seen: ClaimRefused) -> None:
        self._record(metrics.CLAIM_REFUSED, 1, self.attributes())

    def _polling_failed(self, seen: PollingFailed) -> None:
        own = (metrics.LOOP, seen.loop, metrics.ERROR, self._error(seen.error))
        self._record(metrics.POLL_ERRORS, 1, self.attributes(*own))

    def _settle_failed(self, seen: SettleFailed) -> None:
        own = (metrics.OUTCOME, seen.outcome, metrics.ERROR, self._error(seen.error))
        self._record(metrics.SETTLE_ERRORS, 1, self.attributes(*own))

    def _throttled(self, seen: Throttled) -> None:
        self._record(metrics.THROTTLES, 1, self.attributes(metrics.CALL, seen.operation))

    def _error(self, error: BaseException | None) -> str | None:
        return None if error is None else self._errors.limited(error_type(error))
