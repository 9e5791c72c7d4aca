"""A warning for a bus that emits events and has handlers for them, but was never started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakMethod

from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observers import logger

PATIENCE_SECONDS: Final = 5.0
"""The warning comes this long after the first emit, because scripts often emit before they start the bus."""


class StartReminder:
    """Logs one warning if a bus emits events that it has handlers for, and does not run them.

    The warning comes five seconds after the first of these emits, unless the bus is started or run once before that.
    The timer of the warning keeps neither the bus nor the event loop alive.
    """

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._timer: asyncio.TimerHandle | None = None
        self._event_type = ""
        self._is_over = False

    def work_begins(self) -> None:
        """Note that the bus is started or run once: from now on there is no warning, also after a stop."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def emitted(self, events: Iterable[Event]) -> None:
        """Note that events were stored, and start the timer at the first event that has a handler."""
        if self._is_over:
            return
        for event in events:
            if self._registry.of(event.type):
                self._is_over, self._event_type = True, event.type
                remind = WeakMethod(self._remind)
                self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, _call, remind)
                return

    def _remind(self) -> None:
        logger.warning(
            "The bus emits %r events and has handlers for them, but was never started, so it calls no handler: "
            "use `async with bus` or `await bus.start()`. If workers run elsewhere, register no handlers here",
            self._event_type,
        )


def _call(remind: WeakMethod[Callable[[], None]]) -> None:
    if (method := remind()) is not None:
        method()
