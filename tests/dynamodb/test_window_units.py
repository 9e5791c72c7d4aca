"""The write units of events that are claimed on emit, in a window and without one, with those of the window itself."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.units import MeteringClient, Projection, item_bytes
from dynamodb_outbox import DynamoDBOutbox, Event
from tests.dynamodb.windows import keeping_leases

# The other attributes take about 160 bytes, and those of the delivery 100 more, or 150 where the host has a long name.
ONE_KB, TEN_KB = "x" * 700, "x" * 9_900


async def units_per_event(
    client: Any,
    table_name: str,
    *,
    count: int,
    payload: str,
    together: int = 25,
    projection: Projection = "ALL",
    window: bool = True,
) -> float:
    """Emit and complete events, and count all units that are written, also for the window; but not announcements."""
    metering: Any = MeteringClient(client, projection)
    outbox = DynamoDBOutbox(metering, table_name=table_name, conditional_writes="batch", window=window)
    await outbox.create_table(projection=projection)
    async with keeping_leases(outbox, metering, opened=window) as desk:
        metering.start_over()
        for _ in range(count // together):
            events = [Event("order.placed", {"text": payload}) for _ in range(together)]
            await desk.emit(*events)
            assert await desk.settle(*events) == [None] * together
        await desk.retire()
    assert metering.refused == 0
    written: float = sum(metering.written.values()) + metering.upkeep
    return written / count


@pytest.mark.cases(1, thorough=2)
@pytest.mark.parametrize("together", [25, 1])
async def test_event_of_1_kb_costs_two_units_in_a_window(local_client: Any, table_name: str, together: int) -> None:
    count = 1000 if together > 1 else 200
    units = await units_per_event(local_client, table_name, count=count, payload=ONE_KB, together=together)
    assert 2.0 <= units <= 2.1


@pytest.mark.parametrize(("projection", "window", "expected"), [("ALL", True, 20), ("ALL", False, 40)])
async def test_event_of_10_kb_costs_half_in_a_window(
    local_client: Any, table_name: str, projection: Projection, expected: int, *, window: bool
) -> None:
    units = await units_per_event(
        local_client, table_name, count=100, payload=TEN_KB, projection=projection, window=window
    )
    assert expected <= units <= expected + 0.5


@pytest.mark.parametrize(
    ("projection", "payload", "expected"), [("ALL", ONE_KB, 4), ("KEYS_ONLY", ONE_KB, 4), ("KEYS_ONLY", TEN_KB, 22)]
)
async def test_event_costs_without_a_window_what_it_cost_before(
    local_client: Any, table_name: str, projection: Projection, payload: str, expected: int
) -> None:
    units = await units_per_event(
        local_client, table_name, count=50, payload=payload, projection=projection, window=False
    )
    assert units == expected


async def test_sizes_are_what_they_are_called(local_client: Any, table_name: str) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    async with keeping_leases(outbox, local_client) as desk:
        events = [Event("order.placed", {"text": text}) for text in (ONE_KB, TEN_KB)]
        await desk.emit(*events)
        await desk.settle(*events)
        sizes = [item_bytes(await desk.item(event)) for event in events]
    assert 900 < sizes[0] <= 1024
    assert 10_000 < sizes[1] <= 10_240
