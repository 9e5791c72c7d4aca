"""Heartbeats: what the loops of a worker note while they run, for `bus.health()`.

A loop writes, and any thread may read. Each attribute is replaced as a whole, so nothing needs a lock. All times come
from `time.monotonic`, because `loop.time()` of uvloop stands still while the loop is blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import anyio

from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.wording import describe

BEAT_SECONDS: Final = 1.0
"""The event loop is asked for a sign of life this often."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Failures in a row: since when, how many, and the last error."""

    since: float
    errors: int
    error: str
    is_storage: bool


class LoopHeartbeat:
    """When a polling loop last turned, for how long it has waited for a slot, and whether its steps fail."""

    __slots__ = ("failing", "turned_at", "waits_since")

    def __init__(self) -> None:
        self.turned_at = monotonic()
        self.waits_since: float | None = None
        self.failing: Failing | None = None

    def wait(self) -> None:
        """Note that the loop waits until it may take its next step."""
        self.waits_since = monotonic()

    def step(self) -> None:
        """Note that a step begins."""
        self.turned_at, self.waits_since = monotonic(), None

    def turn(self, error: BaseException | None) -> None:
        """Note the end of a step. A step that failed is a turn of the loop as well."""
        now = monotonic()
        self.turned_at, self.waits_since = now, None
        before = self.failing
        if error is not None:
            # The text and not the error: its traceback would keep alive what the step had.
            since, errors = (now, 0) if before is None else (before.since, before.errors)
            self.failing = Failing(since, errors + 1, describe(error), isinstance(error, StorageError))
        elif before is not None:
            self.failing = None


@dataclass(frozen=True, slots=True)
class Standstill:
    """A time in which the event loop ran nothing: its end, and its length."""

    ended_at: float
    seconds: float


class EventLoopHeartbeat:
    """A task that notes every second that the event loop runs, and notices afterwards if it did not.

    A loop stands still while code blocks it, and while the process is stopped or gets no CPU. `on_beat` is called every
    second.
    """

    def __init__(self, *, tolerance: float, on_beat: Callable[[], None] = lambda: None) -> None:
        self.tolerance = tolerance
        self.beaten_at: float | None = None
        self.last_standstill: Standstill | None = None
        self._on_beat = on_beat

    @property
    def late(self) -> float:
        """For how many seconds the next sign of life is overdue."""
        return 0.0 if self.beaten_at is None else max(monotonic() - self.beaten_at - BEAT_SECONDS, 0.0)

    @property
    def is_late(self) -> bool:
        """Whether the event loop stands still, for longer than the tolerance."""
        return self.late > self.tolerance

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            if self.is_late:
                self.last_standstill = Standstill(monotonic(), self.late)
            self.beaten_at = monotonic()
            self._on_beat()
            await anyio.sleep(BEAT_SECONDS)
