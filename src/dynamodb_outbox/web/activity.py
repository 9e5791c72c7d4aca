"""An observer that counts the events of this process since its start, in a bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dynamodb_outbox.observations import (
    EventCompleted,
    EventFailed,
    HandlerFailed,
    HandlerSucceeded,
    Observation,
    RetryScheduled,
)

INTERVAL: Final = 10.0
"""The seconds of one point in the charts."""
POINTS: Final = 180
"""Half an hour."""
MAX_TYPES: Final = 200
OTHER: Final = "(other types)"
_DURATIONS: Final = 500


@dataclass(slots=True)
class TypeActivity:
    """The counts of one type. `durations` has the seconds of its latest handler calls."""

    completed: int = 0
    retried: int = 0
    failed: int = 0
    durations: deque[float] = field(default_factory=lambda: deque[float](maxlen=_DURATIONS))

    @property
    def success_rate(self) -> float | None:
        """The part of the attempts that succeeded; None before the first."""
        attempts = self.completed + self.retried + self.failed
        return self.completed / attempts if attempts else None

    def percentile(self, part: float) -> float | None:
        """Return a percentile of the latest handler calls; None before the first."""
        return percentile(self.durations, part)


@dataclass(slots=True)
class Point:
    """The counts of one interval."""

    index: int
    completed: int = 0
    retried: int = 0
    failed: int = 0


class Activity:
    """Counts the observations of this process, by type and over time. Add it to a bus as an observer."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: deque[Point] = deque(maxlen=POINTS)
        self.started = clock()
        self.types: dict[str, TypeActivity] = {}

    def __call__(self, observation: Observation, /) -> None:
        """Note an observation."""
        match observation:
            case EventCompleted():
                self._of(observation.event_type).completed += 1
                self._point().completed += 1
            case RetryScheduled():
                self._of(observation.event_type).retried += 1
                self._point().retried += 1
            case EventFailed():
                self._of(observation.event_type).failed += 1
                self._point().failed += 1
            case HandlerSucceeded() | HandlerFailed():
                self._of(observation.event_type).durations.append(observation.seconds)
            case _:
                pass

    @property
    def seconds(self) -> float:
        """For how long it has counted."""
        return self._clock() - self.started

    def points(self) -> list[Point]:
        """Return every interval up to now, the oldest first; those without events, too."""
        last = self._index()
        first = max(last - POINTS + 1, 0)
        known = {point.index: point for point in self._points}
        return [known.get(index, Point(index)) for index in range(first, last + 1)]

    def total(self) -> TypeActivity:
        """Add up all types."""
        total = TypeActivity(durations=deque(maxlen=_DURATIONS * 4))
        for activity in self.types.values():
            total.completed += activity.completed
            total.retried += activity.retried
            total.failed += activity.failed
            total.durations.extend(activity.durations)
        return total

    def _of(self, type: str) -> TypeActivity:
        name = type if type in self.types or len(self.types) < MAX_TYPES else OTHER
        return self.types.setdefault(name, TypeActivity())

    def _point(self) -> Point:
        index = self._index()
        if not self._points or self._points[-1].index != index:
            self._points.append(Point(index))
        return self._points[-1]

    def _index(self) -> int:
        return int((self._clock() - self.started) / INTERVAL)


def percentile(values: Sequence[float] | deque[float], part: float) -> float | None:
    """Return the value that `part` of the values do not exceed; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
