"""Measure what the library costs, on DynamoDB Local: python -m benchmarks [--quick] [--endpoint URL]."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import report, suite
from benchmarks.engine import connected, use_fake_credentials
from tools.dynamodb_local import running

RESULTS: Final = Path(__file__).parent / "results.json"
JUDGED_WHEN_QUICK: Final = (1, 2, 3)


def main() -> int:
    """Measure, and print; a quick run fails where a promise is missed by more than half."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs; fails on a bad miss")
    parser.add_argument("--results", type=Path, help=f"where the figures go (default: {RESULTS.name}, none when quick)")
    given = parser.parse_args()
    use_fake_credentials()
    logging.getLogger("dynamodb_outbox").setLevel(logging.ERROR)
    console = Console(width=None if sys.stdout.isatty() else 140)
    started = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s  {what}")

    with running() as endpoint:
        results = asyncio.run(_measure(endpoint, suite.QUICK if given.quick else suite.FULL, say))
    report.show(results, console)
    path = given.results or (None if given.quick else RESULTS)
    if path is not None:
        report.write(results, path)
    console.print(f"took {time.monotonic() - started:.0f} s")
    judged = [each for each in results.criteria if each.number in JUDGED_WHEN_QUICK]
    return int(given.quick and any(each.failed for each in judged))


async def _measure(endpoint: str, scale: suite.Scale, say: suite.Say) -> suite.Results:
    async with connected(endpoint) as client:
        return await suite.measure(client, scale, say)


if __name__ == "__main__":
    sys.exit(main())
