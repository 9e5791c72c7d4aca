"""Stores events in the states that commands are for."""

from __future__ import annotations

import asyncio
from typing import Any

from dynamodb_outbox import Event, InMemoryOutbox
from dynamodb_outbox.adapter import Failed


def emit(outbox: InMemoryOutbox, *events: Event, due_at: float | None = None) -> None:
    asyncio.run(outbox.publish(events, due_at=due_at))


def fail(outbox: InMemoryOutbox, *events: Event, error: str = "ship: KeyError: 'a'", **parts: Any) -> None:
    """Store events, and let them become dead letters."""

    async def work() -> None:
        await outbox.publish(events)
        wanted = {event.id for event in events}
        claims = [claim for claim in await outbox.claim(1_000) if claim.event.id in wanted]
        assert len(claims) == len(wanted)
        outcome = Failed(error=error, **({"error_type": "KeyError", "error_handler": "ship"} | parts))
        assert await outbox.settle([(claim, outcome) for claim in claims]) == [None] * len(claims)

    asyncio.run(work())


def dead_letters(outbox: InMemoryOutbox, count: int, **parts: Any) -> list[str]:
    """Store dead letters; return their ids."""
    events = [Event(parts.pop("type", "order.placed"), {"n": number}, id=f"dead-{number}") for number in range(count)]
    fail(outbox, *events, **parts)
    return [event.id for event in events]
