"""A bus whose events have one attempt, and a handler at the end of its middleware."""

from __future__ import annotations

import asyncio

import pytest

from dynamodb_outbox import Event, OutboxEventBus
from tests.fakes import ScriptedOutbox, quick_outbox


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return quick_outbox(max_retries=0)


@pytest.fixture
def handled(bus: OutboxEventBus) -> list[Event]:
    """The events that reached the handler."""
    events: list[Event] = []

    @bus.on("order.placed")
    async def confirm(event: Event) -> None:
        await asyncio.sleep(0.1)
        events.append(event)

    return events
