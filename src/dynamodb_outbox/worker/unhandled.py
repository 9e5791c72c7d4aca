"""The types of events that a bus has no handler for."""

from __future__ import annotations

from typing import Final, TypeVar

from dynamodb_outbox.handlers import HandlerRegistry

T = TypeVar("T")

MAX_TYPES: Final = 1_000
"""At most this many types are remembered. They come from the table, which may hold any number of types."""


class UnhandledTypes:
    """Remembers the types whose events were given back, so that each is reported once."""

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._met: dict[str, None] = {}
        self._met_versions: dict[tuple[str, int], None] = {}

    def meet(self, event_type: str) -> bool:
        """Note a type that has no handler; tells whether it is new."""
        return _note(self._met, event_type)

    def meet_version(self, event_type: str, version: int) -> bool:
        """Note a version that is newer than the classes here; tells whether it is new."""
        return _note(self._met_versions, (event_type, version))

    def still_unhandled(self) -> list[str]:
        """List the noted types that still have no handler."""
        return [event_type for event_type in self._met if not self._registry.of(event_type)]


def _note(met: dict[T, None], key: T) -> bool:
    if key in met:
        return False
    if len(met) >= MAX_TYPES:
        del met[next(iter(met))]
    met[key] = None
    return True
