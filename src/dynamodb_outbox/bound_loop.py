"""The event loop that a bus or an outbox belongs to: the first loop that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final

from dynamodb_outbox.errors import UsageError

OUTBOX_INSTEAD: Final = "Make an outbox and its bus in this loop, because an outbox belongs to one loop."
"""The advice for an outbox that is used in another loop."""
OnClosed = Callable[[str], None]
"""Called with the name of a call if the bound loop is closed; raises if the object cannot be used in another loop."""


class BoundLoop:
    """Refuses calls from other event loops, before they change or send anything.

    `owner` is the name of the object in the error, such as "bus"; `instead` is a sentence of advice. If the loop is
    closed, `on_closed` is called, and the object then belongs to the running loop: tests often make a loop for each
    test, and scripts may call `asyncio.run` twice.
    """

    __slots__ = ("_instead", "_lock", "_loop", "_on_closed", "_owner")

    def __init__(self, owner: str, *, instead: str = "", on_closed: OnClosed | None = None) -> None:
        self._owner = owner
        self._instead = f"{instead} " if instead else ""
        self._on_closed = on_closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = Lock()

    def check(self, call: str, *, handed: str | None = None) -> None:
        """Bind to the running loop, or raise `UsageError` if another loop is bound.

        `handed` is the coroutine that the error advises to hand to the bound loop, by default the call itself.
        """
        running = asyncio.get_running_loop()
        if running is not self._loop:
            self._bind(running, call, handed or f"{call}(...)")

    def run(self, function: Callable[[], None]) -> None:
        """Call a function in the bound loop, from any thread: at once in the thread of that loop, else soon."""
        if (loop := self._loop) is None:
            return
        with suppress(RuntimeError):  # no loop runs in this thread
            if asyncio.get_running_loop() is loop:
                function()
                return
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(function)

    def _bind(self, running: asyncio.AbstractEventLoop, call: str, handed: str) -> None:
        # Two threads may make the first call at the same time.
        with self._lock:
            bound = self._loop
            if bound is None:
                self._loop = running
            elif bound.is_closed():
                if self._on_closed is not None:
                    self._on_closed(call)
                self._loop = running
            elif bound is not running:
                raise UsageError(
                    f"{call} did nothing, because the {self._owner} belongs to another event loop. "
                    f"{self._instead}From another thread, hand the call to that loop: "
                    f"asyncio.run_coroutine_threadsafe({handed}, loop).result(). Get `loop` from "
                    f"asyncio.get_running_loop() in the code that first used the {self._owner}"
                )
