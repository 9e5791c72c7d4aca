"""What the tests of windows over time share: the window items of a table, emits and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.dynamodb.windows.item import WINDOW_IDS
from reliability.simulation.responses import client_error
from tests.simulated_table import Parameters, SimulatedService

LEASE = 30.0
THIRD = LEASE / 3


def windows(service: SimulatedService) -> list[Any]:
    """The window items of the table that are open."""
    items = service.backend.tables["events"].items
    return [item for key, item in items.items() if key.startswith(WINDOW_IDS) and item["status"] == {"S": "WINDOW"}]


def of_kind(seen: list[Any], kind: type) -> list[Any]:
    return [each for each in seen if isinstance(each, kind)]


async def emit(bus: OutboxEventBus, count: int) -> None:
    for _ in range(count):
        await bus.emit("order.placed")


async def handled(event: Event) -> None:
    """Handle an event at once."""


def sleeping(seconds: float) -> Callable[[Event], Awaitable[None]]:
    async def handler(event: Event) -> None:
        await asyncio.sleep(seconds)

    return handler


async def unhindered(operation: str, parameters: Parameters) -> None:
    """Let a call pass."""


async def outage(operation: str, parameters: Parameters) -> None:
    """Answer every call with an error."""
    raise client_error("InternalServerError", "an error of the test", operation=operation)


async def fail_queries(operation: str, parameters: Parameters) -> None:
    """Refuse to read the index."""
    if operation == "query":
        raise client_error("InternalServerError", "an error of the test", operation=operation)


async def fail_upkeep(operation: str, parameters: Parameters) -> None:
    """Refuse to renew windows."""
    if operation == "update_item" and parameters["Key"]["id"]["S"].startswith(WINDOW_IDS):
        raise client_error("InternalServerError", "an error of the test", operation=operation)
