"""The calculator counts what the engine was seen to bill."""

from __future__ import annotations

import pytest

from benchmarks.cost import Mode, Prices, cost, idle_dollars
from benchmarks.units import Projection, write_units

PENDING = {"id": {"S": "e"}, "status": {"S": "PENDING"}, "gsiSortKey": {"N": "1"}}
CLAIMED = {"id": {"S": "e"}, "status": {"S": "PROCESSING"}, "gsiSortKey": {"N": "2"}}
COMPLETED = {"id": {"S": "e"}, "status": {"S": "COMPLETED"}}


@pytest.mark.parametrize(
    ("old", "new", "units"),
    [(None, PENDING, 2), (PENDING, CLAIMED, 3), (CLAIMED, COMPLETED, 2), (COMPLETED, COMPLETED, 1)],
)
def test_a_write_costs_the_table_and_what_leaves_and_enters_the_index(old: object, new: object, units: int) -> None:
    assert write_units(old, new, "ALL") == units


@pytest.mark.parametrize(
    ("size", "projection", "mode", "units"),
    [
        (500, "ALL", "polled", 7),
        (500, "KEYS_ONLY", "polled", 7),
        (500, "ALL", "birth", 4),
        (10_000, "ALL", "polled", 70),
        (10_000, "KEYS_ONLY", "polled", 34),
    ],
)
def test_units_of_an_event(size: int, projection: Projection, mode: Mode, units: int) -> None:
    found = cost(payload_bytes=size, projection=projection, mode=mode, batch_size=10, prices=Prices())
    assert found.write_units == units


def test_dollars_are_units_by_prices() -> None:
    prices = Prices(write=2.0, read=0.0)
    assert cost(payload_bytes=500, projection="ALL", mode="birth", batch_size=10, prices=prices).dollars == 8.0
    assert idle_dollars(poll_interval=1.0, prices=Prices(read=1.0)) == pytest.approx(2.592)
