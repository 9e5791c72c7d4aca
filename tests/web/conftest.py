"""A dashboard over an outbox in memory, with one event of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynamodb_outbox import Event, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web import Access, Dashboard, Role, outbox_dashboard
from tests.web.client import Client

Make = Callable[..., Client]


@pytest.fixture
def outbox() -> InMemoryOutbox:
    return InMemoryOutbox(max_retries=0, on_error=lambda error: None)


@pytest.fixture
def bus(outbox: InMemoryOutbox) -> OutboxEventBus:
    bus = OutboxEventBus(outbox)

    async def fail_if_told(event: Event) -> None:
        if isinstance(event.payload, dict) and "fail" in event.payload:
            raise ValueError(event.payload["fail"])

    bus.on("user.created", fail_if_told, name="welcome")
    bus.on("order.placed", fail_if_told, name="ship")
    return bus


@pytest.fixture
def dashboard(bus: OutboxEventBus) -> Dashboard:
    return outbox_dashboard(bus, authorize=lambda request: Access("ada", list(Role)))


@pytest.fixture
def client(dashboard: Dashboard) -> Client:
    return Client(dashboard)


@pytest.fixture
def client_with(bus: OutboxEventBus) -> Make:
    """Make a client of a person with some roles, and other options of the dashboard."""

    def make(*roles: Role | str, **options: Any) -> Client:
        return Client(outbox_dashboard(bus, **{"authorize": lambda request: Access("ada", roles), **options}))

    return make


async def fail_events(bus: OutboxEventBus, *events: Event) -> None:
    """Emit events, and have their handlers fail: each becomes a dead letter."""
    await bus.emit_many(events)
    while await bus.run_once():
        pass


def failing(type: str = "user.created", *, text: str = "the mail server is down", **options: Any) -> Event:
    return Event(type, {"fail": text}, **options)
