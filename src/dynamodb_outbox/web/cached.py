"""Values that all viewers share, so that a second open page costs no second read."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Loaded(Generic[T]):
    value: T
    at: float


class Cached(Generic[T]):
    """A value that is loaded at most once every `seconds`, and by one caller at a time.

    An error is raised to the callers that waited for that load, and the next call loads again.
    """

    def __init__(
        self, load: Callable[[], Awaitable[T]], *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._loaded: _Loaded[T] | None = None
        self._lock: anyio.Lock | None = None

    async def get(self) -> T:
        """Return the value, loaded now or a short time ago."""
        if (fresh := self._fresh()) is not None:
            return fresh.value
        # Made here, because a constructor may run before there is an event loop.
        self._lock = self._lock or anyio.Lock()
        async with self._lock:
            if (fresh := self._fresh()) is not None:
                return fresh.value
            self._loaded = _Loaded(await self._load(), self._clock())
            return self._loaded.value

    def forget(self) -> None:
        """Load again with the next call, because something has changed."""
        self._loaded = None

    def _fresh(self) -> _Loaded[T] | None:
        loaded = self._loaded
        return loaded if loaded is not None and self._clock() - loaded.at < self._seconds else None
