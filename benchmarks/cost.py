"""Prints the costs of a million events.

Usage: python -m benchmarks.cost --payload-bytes 500 --projection ALL --mode polled.

The items are made by the library, and `benchmarks.units` counts their units by the documented rule. The benchmarks
compare this rule with the units that DynamoDB Local reports.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Literal, get_args
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from benchmarks.payloads import TYPE, text
from benchmarks.units import READ_STEP, Projection, item_bytes, projected, write_units
from dynamodb_outbox import Event
from dynamodb_outbox.dynamodb.items.codec import encode_claimed, encode_event, encode_unlisted, millis
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.dynamodb.windows.item import new_window
from dynamodb_outbox.event_ids import SEED_BYTES

Mode = Literal["polled", "on_emit", "window"]
"""How an event is handled: by any worker, where it is emitted, or where it is emitted and in a window."""

LEASE: Final = 30.0
WORKER: Final = "ip-10-0-12-34/1/3f9a2c"
"""The name of a worker, of a usual length."""
RENEWALS: Final = 3
"""A window is renewed this often in a lease."""
SIZES: Final = (500, 2000, 10_000, 50_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars per million request units; the defaults are the on-demand prices in us-east-1."""

    write: float = 0.625
    read: float = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Units of one event, and dollars for a million of them."""

    write_units: int
    read_units: float
    dollars: float


def cost(*, payload_bytes: int, projection: Projection, mode: Mode, batch_size: int, prices: Prices) -> Cost:
    """Calculate the costs of an event from emit to completion, without the upkeep of a window.

    Its share of the reads assumes a busy worker, with full pages.
    """
    now = time.time()
    event = Event(TYPE, text(payload_bytes / 1024))
    pending, _ = encode_event(event, due_at=now, numbers="native")
    claimed = encode_claimed(pending, token=uuid4().hex, worker=WORKER, now=now, lease_expires_at=now + LEASE)
    if mode == "window":
        claimed = encode_unlisted(pending, token=uuid4().hex, worker=WORKER, window=token_hex(8), now=now)
    completed = {name: value for name, value in claimed.items() if name != "gsiSortKey"}
    completed |= {"status": {"S": "COMPLETED"}, "completedOn": millis(now)}
    states = [pending, claimed, completed] if mode == "polled" else [claimed, completed]
    olds = [None, *states[:-1]]
    written = sum(write_units(old, new, projection) for old, new in zip(olds, states, strict=True))
    read = _page_units(pending, projection, batch_size) / batch_size if mode == "polled" else 0.0
    return Cost(write_units=written, read_units=read, dollars=written * prices.write + read * prices.read)


def idle_dollars(*, poll_interval: float, prices: Prices) -> float:
    """Calculate the costs of one idle worker in 30 days: each poll makes two queries of half a unit."""
    return 30 * 86_400 / poll_interval / 1e6 * prices.read


def window_dollars(*, prices: Prices) -> float:
    """Calculate the costs of a window that is always open in 30 days: renewals, which change its place in the index."""
    now = time.time()
    shape: dict[str, Any] = {"seed": bytes(SEED_BYTES), "start": 0, "end": 1, "now": now, "shards": Shards(1)}
    seen = new_window("w", token=uuid4().hex, deadline=now, **shape)
    renewed = new_window("w", token=uuid4().hex, deadline=now + LEASE, **shape)
    return 30 * 86_400 / LEASE * RENEWALS * write_units(seen, renewed, "ALL") / 1e6 * prices.write


def _page_units(item: Any, projection: Projection, batch_size: int) -> float:
    # An eventually consistent read costs half a unit per 4 KB of index entries.
    size = item_bytes(projected(item, projection) or {}) * batch_size
    return math.ceil(size / READ_STEP) / 2


def main() -> None:
    """Print the costs of one kind of event, and a table of other kinds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description="Dollars per million events.")
    parser.add_argument("--payload-bytes", type=int, default=500, help="size of the payload as JSON")
    parser.add_argument("--projection", choices=get_args(Projection), default="ALL")
    parser.add_argument("--mode", choices=get_args(Mode), default="polled")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--poll-interval", type=float, default=1.0)
    parser.add_argument("--write-price", type=float, default=Prices().write, help="dollars per million write units")
    parser.add_argument("--read-price", type=float, default=Prices().read, help="dollars per million read units")
    given = parser.parse_args()
    prices = Prices(write=given.write_price, read=given.read_price)
    console = Console(width=120)
    one = cost(
        payload_bytes=given.payload_bytes,
        projection=given.projection,
        mode=given.mode,
        batch_size=given.batch_size,
        prices=prices,
    )
    console.print(
        f"{given.payload_bytes:,} bytes, index {given.projection}, {given.mode}: {one.write_units} write units and "
        f"{one.read_units:.2f} read units per event, ${one.dollars:.2f} per million events"
    )
    console.print(_table(given.batch_size, prices))
    idle = idle_dollars(poll_interval=given.poll_interval, prices=prices)
    console.print(f"An idle worker that polls every {given.poll_interval:g} s: ${idle:.2f} in 30 days")
    console.print(f"A window that is always open: ${window_dollars(prices=prices):.2f} in 30 days")


def _table(batch_size: int, prices: Prices) -> Table:
    table = Table("payload, bytes", title="dollars per million events (write units per event)")
    kinds: list[tuple[Mode, Projection]] = [
        ("polled", "ALL"),
        ("polled", "KEYS_ONLY"),
        ("on_emit", "ALL"),
        ("on_emit", "KEYS_ONLY"),
        ("window", "ALL"),
        ("window", "KEYS_ONLY"),
    ]
    for mode, projection in kinds:
        table.add_column(f"{mode}, {projection}", justify="right")
    for size in SIZES:
        costs = [
            cost(payload_bytes=size, projection=projection, mode=mode, batch_size=batch_size, prices=prices)
            for mode, projection in kinds
        ]
        table.add_row(f"{size:,}", *(f"{each.dollars:.2f} ({each.write_units})" for each in costs))
    return table


if __name__ == "__main__":
    main()
