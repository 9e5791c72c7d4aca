"""Soak the library: `python -m reliability.soak --minutes 10`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import randrange

from rich.console import Console
from rich.live import Live
from rich.table import Table

from reliability.soak.soak import Plan, Soak
from tools.dynamodb_local import running


def main() -> int:
    """Run a soak and print the result; return 1 if there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m reliability.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=4.0, help="emits per second of each process")
    parser.add_argument(
        "--seed", type=int, default=randrange(10**6), help="seed of the faults; the processes draw their own"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the journal goes")
    given = parser.parse_args()
    # DynamoDB Local accepts any credentials, and the SDK must not search for real ones.
    os.environ |= {"AWS_ACCESS_KEY_ID": "soak", "AWS_SECRET_ACCESS_KEY": "soak", "AWS_EC2_METADATA_DISABLED": "true"}
    plan = Plan(
        seconds=60 * given.minutes, workers=given.workers, rate=given.rate, seed=given.seed, folder=given.folder
    )
    soak = Soak(plan)
    console = Console(width=None if sys.stdout.isatty() else 110)
    with running() as endpoint, Live(console=console, refresh_per_second=2, transient=False) as live:
        asyncio.run(soak.run(endpoint, _shown_in(live)))
    if not sys.stdout.isatty():
        console.line()  # the display ends without a line break
    for problem in soak.problems:
        console.print(problem, style="red", markup=False, highlight=False)
    verdict = f"{len(soak.problems)} problems" if soak.problems else "every invariant held, and nothing leaked"
    console.print(f"soak of {given.minutes:g} minutes, seed {given.seed}: {soak.stored} events, {verdict}")
    console.print(f"journal: {soak.journal}", markup=False, soft_wrap=True)
    return int(bool(soak.problems))


def _shown_in(live: Live) -> Callable[[Soak], None]:
    return lambda soak: live.update(_table(soak))


def _table(soak: Soak) -> Table:
    ledger = soak.ledger
    table = Table(
        title=f"{soak.phase}, {time.monotonic() - soak.started:.0f} s of {soak.plan.seconds:.0f} s", width=100
    )
    table.add_column("what")
    table.add_column("so far")
    rows = {
        "acknowledged, waiting": f"{len(ledger.acknowledged)}, {ledger.waiting}",
        "outcomes": _counts(ledger.outcomes),
        "recovered, refused, unknown": ", ".join(
            str(ledger.records[kind]) for kind in ("Recovered", "SettleRefused", "SettleFailed")
        ),
        "network fault": soak.network.kind or "none",
        "harmed requests": _counts(soak.network.done),
        "signals": _counts(soak.pool.done),
        "processes, largest": f"{soak.pool.count}, {max(ledger.memory.values(), default=0) / 2**20:.0f} MB",
    }
    for what, text in rows.items():
        table.add_row(what, text)
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
