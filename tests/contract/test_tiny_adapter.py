"""The contract of adapters, but for transactions, holds for an adapter that is made of public names."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import dynamodb_outbox
from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox import adapter as port
from tests.contract import (
    test_claiming_and_settling,
    test_publishing,
    test_reading,
    test_recovery_and_dead_letters,
    tiny_adapter,
)
from tests.contract.adapters import Adapter
from tests.fakes import Clock

CONTRACT = (test_publishing, test_claiming_and_settling, test_recovery_and_dead_letters, test_reading)
NEED_TRANSACTIONS = {
    "test_handlers_get_numbers_by_the_mode_however_an_event_came_to_them",
    "test_refused_duplicate_has_the_stored_event",
    "test_reserved_id_is_refused_by_every_kind_of_emit",
}
TESTS = {name: test for module in CONTRACT for name, test in vars(module).items() if name.startswith("test_")}
assert TESTS.keys() >= NEED_TRANSACTIONS
globals().update({name: test for name, test in TESTS.items() if name not in NEED_TRANSACTIONS})


@pytest.fixture
def adapter(clock: Clock) -> Adapter:
    rows: dict[str, tiny_adapter.Row] = {}

    def make(**options: Any) -> port.Outbox:
        return tiny_adapter.TinyOutbox(rows, clock=clock, **options)

    async def stored(event_id: str) -> dict[str, Any]:
        row = rows.get(event_id)
        if row is None:
            return {}
        return {
            "status": row.status,
            "retries": row.retries,
            "sort_key": None if row.status is tiny_adapter.COMPLETED else row.sort_key,
            "token": row.token or None,
            "error": row.error,
            "handled_by": set(row.handled_by),
            "unhandled_since": row.unhandled_since,
        }

    async def delete(event_id: str) -> None:
        del rows[event_id]

    return Adapter(make, stored, delete)


async def test_bus_delivers_events_of_the_adapter() -> None:
    bus = OutboxEventBus(tiny_adapter.TinyOutbox({}, poll_interval=0.01))
    handled: list[Any] = []

    @bus.on("order.placed")
    async def ship(event: Event) -> None:
        handled.append(event.payload)

    async with bus:
        await bus.emit("order.placed", {"order": 7})
        await bus.drain(timeout=10)
    assert handled == [{"order": 7}]


def test_adapter_has_at_most_160_lines_of_code_and_uses_public_names() -> None:
    source = Path(tiny_adapter.__file__).read_text()
    assert sum(1 for line in source.splitlines() if line.strip()) <= 160
    public = {"dynamodb_outbox": {*dynamodb_outbox.__all__, "adapter"}, "dynamodb_outbox.adapter": set(port.__all__)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and "dynamodb_outbox" in str(node.module):
            assert {alias.name for alias in node.names} <= public[str(node.module)]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "port":
            assert node.attr in port.__all__
