"""Time that depends on no machine: it passes only when an event loop has nothing left to do but wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

EPOCH = 1_790_000_000.0


class VirtualTime:
    """A loop's time and selector: when nothing else is left to do, the next timer is due at once.

    For code that waits for timers and for its own tasks only. What waits for a socket, a thread or another process
    would see its time limits run out at once.
    """

    def __init__(self, selector: Any) -> None:
        self._selector = selector
        # Small, so that the shortest wait still moves it: a float of the size of `EPOCH` has a grain of 0.2 µs.
        self._passed = 1.0

    def time(self) -> float:
        """The time of the event loop."""
        return self._passed

    def clock(self) -> float:
        """The time of day (epoch seconds)."""
        return EPOCH + self._passed

    def pass_by(self, seconds: float) -> None:
        """Let time go by in which nothing runs, as a handler does that blocks the loop."""
        self._passed += seconds

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass that the loop would have waited."""
        if timeout is None:
            return self._selector.select(None)
        ready = self._selector.select(0)
        if not ready:
            self._passed += max(timeout, 0.0)
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


def install(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Give an event loop a time of its own, until the test is over."""
    virtual = VirtualTime(vars(loop)["_selector"])
    monkeypatch.setattr(loop, "_selector", virtual)
    monkeypatch.setattr(loop, "time", virtual.time)
    return virtual
