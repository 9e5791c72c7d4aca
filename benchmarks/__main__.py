"""Measure the costs of the library on DynamoDB Local, next to a baseline of bare calls."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import criteria, plots, report, suite
from benchmarks.backend import connected, use_fake_credentials
from benchmarks.scale import FULL, QUICK, Scale
from tools.dynamodb_local import running

DOCS: Final = Path(__file__).parent.parent / "docs"
RESULTS: Final = DOCS / "performance.json"
IMAGES: Final = DOCS / "images"


def main() -> int:
    """Measure and print the results; return 1 if a quick run misses a promise by more than half."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less; fail if a promise is missed by half")
    parser.add_argument("--only", nargs="+", choices=FULL.groups, help="measure only these groups")
    given = parser.parse_args()
    use_fake_credentials()
    logging.getLogger("dynamodb_outbox").setLevel(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 130)
    started = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s  {what}")

    scale = QUICK if given.quick else FULL
    if given.only:
        scale = replace(scale, groups=tuple(given.only))
    with running() as endpoint:
        results = asyncio.run(_measure(endpoint, scale, say))
    judged = criteria.judge(results)
    report.show(results, judged, console)
    if not given.quick:
        report.write(results, judged, RESULTS)
        plots.draw(RESULTS, IMAGES)
    console.print(f"[dim]took {time.monotonic() - started:.0f} s")
    return int(given.quick and any(each.failed for each in judged))


async def _measure(endpoint: str, scale: Scale, say: suite.Say) -> suite.Results:
    async with connected(endpoint) as clients:
        return await suite.measure(clients, endpoint, scale, say)


if __name__ == "__main__":
    sys.exit(main())
