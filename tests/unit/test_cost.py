"""The calculator counts what the engine was seen to bill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, get_args

import pytest

from benchmarks.cost import Mode, Prices, cost, idle_dollars, window_dollars
from benchmarks.sizes import KILOBYTES
from benchmarks.units import Projection, write_units

RESULTS: Final = Path(__file__).parents[2] / "docs" / "performance.json"

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
        (500, "ALL", "on_emit", 4),
        (500, "ALL", "window", 2),
        (500, "KEYS_ONLY", "window", 2),
        (10_000, "ALL", "polled", 70),
        (10_000, "KEYS_ONLY", "polled", 34),
        (10_000, "ALL", "window", 20),
        (10_000, "KEYS_ONLY", "window", 20),
    ],
)
def test_units_of_an_event(size: int, projection: Projection, mode: Mode, units: int) -> None:
    found = cost(payload_bytes=size, projection=projection, mode=mode, batch_size=10, prices=Prices())
    assert found.write_units == units


def test_dollars_are_units_by_prices() -> None:
    prices = Prices(write=2.0, read=0.0)
    assert cost(payload_bytes=500, projection="ALL", mode="on_emit", batch_size=10, prices=prices).dollars == 8.0
    assert idle_dollars(poll_interval=1.0, prices=Prices(read=1.0)) == pytest.approx(2.592)
    # Three renewals in each lease of 30 seconds, of three units each.
    assert window_dollars(prices=Prices(write=1.0)) == pytest.approx(0.7776)


def test_calculator_comes_to_what_the_benchmark_measured() -> None:
    sizes = json.loads(RESULTS.read_text(encoding="utf-8"))["sizes"]
    assert len(sizes) == len(KILOBYTES)
    for measured in sizes:
        bytes_, key = round(measured["kilobytes"] * 1024), {"ALL": "units_all", "KEYS_ONLY": "units_keys_only"}
        for projection in get_args(Projection):
            found = cost(payload_bytes=bytes_, projection=projection, mode="polled", batch_size=10, prices=Prices())
            assert found.write_units == measured[key[projection]]
