"""Profile the CPU of the library: python -m benchmarks.profiling emit_many|deliver|on_emit|window|index|publish."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import pstats
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Self

from rich.console import Console
from rich.table import Table

from benchmarks import baseline, delivering, emitting, publishing, windows
from benchmarks.backend import connected, use_fake_credentials
from benchmarks.comparison import Run
from benchmarks.measure import Usage
from tools.dynamodb_local import running

PATHS: Final[dict[str, Callable[..., Awaitable[Run]]]] = {
    "emit_many": emitting.many,
    "emit": emitting.concurrently,
    "deliver": delivering.backlog,
    "on_emit": delivering.on_emit,
    "window": partial(windows.emit_many, window=True),
    "index": partial(windows.emit_many, window=False),
    "publish": publishing.by_same_requests,
}


def main() -> None:
    """Profile one path, and print its most expensive functions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("path", choices=PATHS)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--lines", type=int, default=25)
    given = parser.parse_args()
    use_fake_credentials()
    logging.getLogger("dynamodb_outbox").setLevel(logging.ERROR)
    with running() as endpoint:
        stats = asyncio.run(_profiled(endpoint, PATHS[given.path], given.events))
    for only_ours in (True, False):
        _show(stats, events=given.events, lines=given.lines, only_ours=only_ours)


async def _profiled(endpoint: str, path: Callable[..., Awaitable[Run]], count: int) -> pstats.Stats:
    profile = cProfile.Profile(time.process_time)

    class Profiling:
        """Replaces `Measure`: the profile covers the same block."""

        usage = Usage(1.0, 1.0)

        def __enter__(self) -> Self:
            profile.enable()
            return self

        def __exit__(self, *_: object) -> None:
            profile.disable()

    async def no_baseline(*_: Any) -> Usage:
        return Usage(1.0, 1.0)

    async with connected(endpoint) as clients:
        await path(clients, count=200)
        for module in (emitting, delivering, publishing, windows):
            vars(module)["Measure"] = Profiling
        vars(baseline)["replayed"] = vars(publishing)["_sent_in_tens"] = no_baseline
        await path(clients, count=count)
    return pstats.Stats(profile)


def _show(stats: pstats.Stats, *, events: int, lines: int, only_ours: bool) -> None:
    table = Table(
        "function", "calls per event", "own µs per event", "with callees", title="ours" if only_ours else "all"
    )
    functions = vars(stats)["stats"]
    total = 0.0
    rows: list[tuple[float, str, float, float]] = []
    for (file, line, name), (_, calls, own, cumulative, _) in functions.items():
        ours = "dynamodb_outbox" in file
        total += own
        if ours or not only_ours:
            label = (
                f"{file.rsplit('dynamodb_outbox/', maxsplit=1)[-1] if ours else file.rsplit('/', 2)[-1]}:{line} {name}"
            )
            rows.append((own, label, calls, cumulative))
    rows.sort(reverse=True)
    for own, label, calls, cumulative in rows[:lines]:
        table.add_row(label, f"{calls / events:.2f}", f"{own / events * 1e6:.1f}", f"{cumulative / events * 1e6:.1f}")
    table.caption = (
        f"{total / events * 1e6:.0f} µs per event, {sum(r[0] for r in rows) / events * 1e6:.0f} in the listed functions"
    )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
