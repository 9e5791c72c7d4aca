"""The types of events that a bus has no handler for."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.handlers import HandlerRegistry

MAX_TYPES: Final = 1_000
"""At most this many types are remembered. They come from the table, which may hold any number of types."""


class UnhandledTypes:
    """Remembers the types whose events were given back, so that each is reported once."""

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._met: dict[str, None] = {}

    def meet(self, event_type: str) -> bool:
        """Note a type that has no handler; tells whether it is new."""
        if event_type in self._met:
            return False
        if len(self._met) >= MAX_TYPES:
            del self._met[next(iter(self._met))]
        self._met[event_type] = None
        return True

    def still_unhandled(self) -> list[str]:
        """List the noted types that still have no handler."""
        return [event_type for event_type in self._met if not self._registry.of(event_type)]
