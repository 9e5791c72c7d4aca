"""Reminding of a bus that emits events it has handlers for, and was never started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio

from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import HandlerRegistry
from dynamodb_outbox.observing import logger

PATIENCE_SECONDS: Final = 5.0
"""How long after its first emit a bus may be started without a word: scripts often emit first."""


class StartReminder:
    """Logs one warning if nothing works on events that this bus has handlers for.

    The warning comes with an emit and not with a timer, because a timer would outlive the bus. A process that emits
    one event, or only in its first seconds, is not reminded.
    """

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._first_at: float | None = None
        self._is_over = False

    def work_begins(self) -> None:
        """Note that the bus is started, or run once: it is not forgotten, also after it is stopped."""
        self._is_over = True

    def emitted(self, events: Iterable[Event]) -> None:
        """Note that events are stored."""
        if self._is_over:
            return
        event_type = next((event.type for event in events if self._registry.of(event.type)), None)
        if event_type is None:
            return
        now = anyio.current_time()
        if self._first_at is None:
            self._first_at = now
        elif now - self._first_at >= PATIENCE_SECONDS:
            self._is_over = True
            logger.warning(
                "The bus emits %r events and has handlers for them, but was never started, so it calls no handler: "
                "use `async with bus` or `await bus.start()`. If workers run elsewhere, register no handlers here",
                event_type,
            )
