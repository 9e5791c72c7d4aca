"""Run `python -m reliability.simulation --seeds 500`, or one seed with its whole history: `--seed 42`."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reliability.checker import report
from reliability.simulation.campaign import Summary, summaries_of
from reliability.simulation.drawing import scenario_of
from reliability.simulation.faults import Kind
from reliability.simulation.runs import run

MOST_FAILURES = 5


def main() -> int:
    """Run the seeds of the command line; return 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m reliability.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds (default: 500)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default: 0)")
    parser.add_argument("--processes", type=int, help="how many processes (default: one for each core)")
    parser.add_argument("--seed", type=int, help="run this seed alone, and show its history")
    parser.add_argument("--keys", action="store_true", help="have ordering keys in the scenario of every seed")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    if arguments.seed is not None:
        return _one(console, arguments.seed, has_keys=arguments.keys)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return _many(console, seeds, arguments.processes, has_keys=arguments.keys)


def _one(console: Console, seed: int, *, has_keys: bool) -> int:
    result = run(seed, has_keys=has_keys)
    console.print(str(scenario_of(seed, has_keys=has_keys)), markup=False)
    console.print(result.text, markup=False)
    console.print(report(list(result.violations), result.history) or "no invariant is broken", markup=False)
    return 1 if result.violations else 0


def _many(console: Console, seeds: range, processes: int | None, *, has_keys: bool) -> int:
    total = Summary()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]} broken"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(seeds), failures=0)
        for summary in summaries_of(seeds, processes=processes, has_keys=has_keys):
            for seed, failure in summary.failures.items():
                if len(total.failures) < MOST_FAILURES:
                    console.print(f"seed {seed}: {failure}", markup=False)
                    keys = " --keys" if has_keys else ""
                    console.print(f"again: python -m reliability.simulation --seed {seed}{keys}", markup=False)
                total.failures[seed] = failure
            total.join(summary)
            progress.update(task, completed=total.runs, failures=len(total.failures))
    console.print(_table(total))
    broken = ", ".join(map(str, sorted(total.failures)[:50]))
    told = f"{len(total.failures)} broken: {broken}" if total.failures else "no invariant is broken"
    console.print(f"{total.runs} seeds, {total.seconds / 3600:.1f} simulated hours, {total.events} events, ", end="")
    console.print(f"{total.calls} calls, {sum(total.faults.values())} faults: {told}")
    return 1 if total.failures else 0


def _table(total: Summary) -> Table:
    table = Table("fault", "times")
    table.columns[1].justify = "right"
    for kind in Kind:
        table.add_row(kind.value, str(total.faults[kind]))
    return table


if __name__ == "__main__":
    sys.exit(main())
