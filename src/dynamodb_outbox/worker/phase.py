"""The phases of a worker, and the deadline of its stop."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import anyio


class Phase(IntEnum):
    """The phases of a worker, in their order. A worker that is cancelled goes from RUNNING to RELEASING."""

    RUNNING = 0
    """Polls, claims and handles events."""
    DRAINING = 1
    """Claims nothing more. Handlers that run may finish until the deadline of the stop."""
    RELEASING = 2
    """Cancels the handlers that still run, and releases their events."""
    SETTLING = 3
    """Writes the outcomes that are left."""


class Phases:
    """The phase that a worker is in. The parts of the worker ask it."""

    def __init__(self) -> None:
        self.now = Phase.RUNNING
        self.stop_requested = anyio.Event()
        self.drain = anyio.CancelScope()
        """Holds the deadline of the stop, and cancels the drain when it is over."""

    def advance(self, phase: Phase) -> Iterator[Phase]:
        """Go forward to a phase, through all in between. Never goes back."""
        while self.now < phase:
            self.now = Phase(self.now + 1)
            yield self.now

    def request_stop(self, timeout: float | None) -> None:
        """Note that a stop is requested. A timeout (seconds) may shorten the one before; None leaves it."""
        if timeout is not None:
            self.drain.deadline = min(self.drain.deadline, anyio.current_time() + timeout)
        self.stop_requested.set()
