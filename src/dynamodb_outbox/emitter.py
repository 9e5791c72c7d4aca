"""Emitting: what the caller gave becomes events, passes the middleware, and is stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dynamodb_outbox.errors import InvalidEventError
from dynamodb_outbox.event import Event
from dynamodb_outbox.middleware import Middleware, run_chain
from dynamodb_outbox.outbox import Outbox, check_seconds
from dynamodb_outbox.outcome import LONGEST_DELAY


class Emitter:
    """Stores events that have passed the middleware."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.middleware: list[Middleware] = []

    async def emit(self, events: Sequence[Event], *, delay: float | None) -> tuple[list[Event], float | None]:
        """Store events; returns those that were stored, and when they are due if that is later than now."""
        due_at = None
        if delay is not None:
            check_seconds("delay", delay, 0, LONGEST_DELAY)
            due_at = self._outbox.options.clock() + delay
        accepted: list[Event] = []

        async def accept(event: Event) -> None:
            accepted.append(event)

        for event in events:
            before = len(accepted)
            await run_chain(self.middleware, event, accept)
            for successor in accepted[before:]:
                event.pass_unpublished_to(successor)
        if accepted:
            await self._outbox.publish(accepted, due_at=due_at)
        return accepted, due_at


def event_of(
    type_or_event: str | Event,
    payload: Any,
    *,
    id: str | None,
    occurred_at: datetime | None,
    metadata: dict[str, Any] | None,
) -> Event:
    """Make the event that `emit` was asked for. Raises `InvalidEventError` when asked for two things at once."""
    given: dict[str, Any] = {"id": id, "occurred_at": occurred_at, "metadata": metadata}
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(type_or_event, Event):
        return Event(type_or_event, payload, **given)
    if payload is not None or given:
        raise InvalidEventError("emit takes an Event, or a type with payload, id, occurred_at and metadata, not both")
    return type_or_event
