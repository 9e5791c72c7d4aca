"""The types of events that a bus has no handler for."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.handlers import HandlerRegistry

MAX_TYPES: Final = 1_000
"""Of so many types is remembered that they were reported: types come from the table, where anything may be."""


class UnhandledTypes:
    """The types whose events were given back, in the order in which they were met."""

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._met: dict[str, None] = {}

    def meet(self, event_type: str) -> bool:
        """Note a type that has no handler; tells whether it is a new one."""
        if event_type in self._met:
            return False
        if len(self._met) >= MAX_TYPES:
            del self._met[next(iter(self._met))]
        self._met[event_type] = None
        return True

    def still_unhandled(self) -> list[str]:
        """List the types that were met and still have no handler."""
        return [event_type for event_type in self._met if not self._registry.of(event_type)]
