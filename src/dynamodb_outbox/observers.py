"""Observers: functions that are called for everything that happens, for metrics, tracing and logs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.instrumentation import Instrumentation
from dynamodb_outbox.observations import (
    Claimed,
    ClaimRefused,
    EventCompleted,
    EventFailed,
    EventRecovered,
    EventReleased,
    HandlerCancelled,
    HandlerFailed,
    HandlerStarted,
    HandlerSucceeded,
    KeyBlocked,
    KeyUnblocked,
    LeaseLost,
    LeaseRenewed,
    Observation,
    Published,
    PublishFailed,
    RetryScheduled,
    SettleFailed,
)
from dynamodb_outbox.wording import shown
from dynamodb_outbox.worker_observations import (
    HandlersDiffer,
    Polled,
    PollingFailed,
    StorageCalled,
    Throttled,
    WindowLost,
    WindowOpened,
    WindowRecovered,
)

__all__ = [
    "ClaimRefused",
    "Claimed",
    "EventCompleted",
    "EventFailed",
    "EventRecovered",
    "EventReleased",
    "HandlerCancelled",
    "HandlerFailed",
    "HandlerStarted",
    "HandlerSucceeded",
    "HandlersDiffer",
    "KeyBlocked",
    "KeyUnblocked",
    "LeaseLost",
    "LeaseRenewed",
    "LoggingObserver",
    "Observation",
    "Observer",
    "Polled",
    "PollingFailed",
    "PublishFailed",
    "Published",
    "RetryScheduled",
    "SettleFailed",
    "StorageCalled",
    "Throttled",
    "WindowLost",
    "WindowOpened",
    "WindowRecovered",
]

logger: Final = logging.getLogger("dynamodb_outbox")


class Observer(Protocol):
    """A function that is called for every observation, in the event loop. It must be quick, and cannot be async.

    An exception of an observer is logged, and changes nothing.
    """

    def __call__(self, observation: Observation, /) -> None:
        """Note an observation."""
        ...


class Observers:
    """The registered observers. False when empty, so that callers can skip building observations."""

    __slots__ = ("__weakref__", "_observers", "ignored", "instrumentation")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers: tuple[Observer, ...] = ()
        self.ignored: frozenset[type] = frozenset()
        """The kinds of observations that all observers ignore, by their attribute `ignored`: they need not be built."""
        self.instrumentation: Instrumentation | None = None
        """The brackets of a tracer, if there is one."""
        if not isinstance(observers, Iterable):
            raise ConfigurationError(f"observers={shown(observers)}: it must be several functions, such as [observer]")
        for observer in observers:
            self.add(observer)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> None:
        """Add an observer. Raises `ConfigurationError` for an async function, and for a value that is not callable."""
        if not callable(observer):
            raise ConfigurationError(f"observer={shown(observer)}: it must be a function of one observation")
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(type(observer).__call__):
            raise ConfigurationError(f"observer={shown(observer)}: it is called in the event loop, and cannot be async")
        self._set((*self._observers, observer))

    def remove(self, observer: Observer) -> bool:
        """Remove an observer; return whether it was there."""
        before = self._observers
        self._set(tuple(other for other in before if other != observer))
        return len(self._observers) < len(before)

    def _set(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        ignored = [getattr(observer, "ignored", None) for observer in observers]
        known = [each if isinstance(each, frozenset) else frozenset[type]() for each in ignored]
        self.ignored = known[0].intersection(*known[1:]) if known else frozenset()

    def notify(self, observation: Observation) -> None:
        """Call all observers. An exception of an observer is logged, and changes nothing."""
        for observer in self._observers:
            try:
                observer(observation)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # also a CancelledError of the observer: it must not change what the worker does
                logger.exception("an observer raised an exception for %s", observation)


class LoggingObserver:
    """Logs every observation: problems as warnings or errors, all others at `level`.

    `Polled` and `StorageCalled`, which also an idle worker causes all the time, are logged at the level DEBUG.
    """

    def __init__(self, target: logging.Logger = logger, *, level: int = logging.DEBUG) -> None:
        self._logger = target
        self._level = level

    def __call__(self, observation: Observation, /) -> None:
        """Log an observation."""
        level = _LEVELS.get(type(observation), self._level)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", observation)


_LEVELS: Final[dict[type, int]] = {
    Polled: logging.DEBUG,
    StorageCalled: logging.DEBUG,
    PublishFailed: logging.WARNING,
    HandlerFailed: logging.WARNING,
    EventFailed: logging.ERROR,
    KeyBlocked: logging.WARNING,
    LeaseLost: logging.WARNING,
    EventRecovered: logging.WARNING,
    PollingFailed: logging.WARNING,
    SettleFailed: logging.WARNING,
    Throttled: logging.WARNING,
    HandlersDiffer: logging.WARNING,
    WindowLost: logging.WARNING,
    WindowRecovered: logging.WARNING,
}
