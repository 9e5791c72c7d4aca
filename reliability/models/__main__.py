"""Explore every state of protocols: `python -m reliability.models windows queues`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from reliability.models.exploring import Explored
from reliability.models.queues.mutants import SUITE as QUEUES
from reliability.models.suite import Configuration, Mutant, Size, Suite, Survivor
from reliability.models.trial import Report, explored, tried, walked
from reliability.models.windows.mutants import SUITE as WINDOWS

SUITES: Final = {"windows": WINDOWS, "queues": QUEUES}


def main() -> int:
    """Explore what the command line asks for; return 1 if a property is broken, or a mutant is not found."""
    parser = argparse.ArgumentParser(prog="python -m reliability.models", description=__doc__)
    parser.add_argument("models", nargs="+", choices=sorted(SUITES), help="the models")
    parser.add_argument("--all", action="store_true", help="explore the large configurations, too (an hour)")
    parser.add_argument("--most-states", type=int, default=1_000_000, help="the limit for each (default: 1,000,000)")
    parser.add_argument("--mutants", action="store_true", help="also explore the protocol without each of its rules")
    parser.add_argument("--walks", type=float, default=0.0, metavar="SECONDS", help="also walk at random")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the walks (default: 0)")
    parser.add_argument("--only", default="", help="only configurations and mutants whose name contains this text")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    broken = sum(_run(console, SUITES[name], arguments) for name in arguments.models)
    console.print("all is as expected" if not broken else f"{broken} not as expected")
    return 1 if broken else 0


def _run(console: Console, suite: Suite, arguments: argparse.Namespace) -> int:
    configurations = [
        configuration
        for configuration in suite.configurations
        if (arguments.all or configuration.size is Size.SMALL) and arguments.only in configuration.name
    ]
    candidates: list[Mutant | Survivor] = [*suite.mutants, *suite.survivors]
    mutants = [mutant for mutant in candidates if arguments.mutants and arguments.only in mutant.name]
    broken = _explore(console, configurations, arguments.most_states) + _try(console, mutants)
    if arguments.walks:
        broken += _walk(console, suite.walked, arguments.walks / len(arguments.models), arguments.seed)
    return broken


def _explore(console: Console, configurations: Sequence[Configuration], most_states: int) -> int:
    states = broken = incomplete = 0
    for configuration in configurations:
        start = time.monotonic()
        with _progress(console, configuration.name) as report:
            result = explored(configuration, most_states=most_states, report=report)
        states += result.states
        incomplete += not result.is_complete
        cut = "" if result.is_complete or result.broken else " (cut there, so LIVE is not known)"
        console.print(
            f"{configuration.name}: {result.broken or 'holds'}; "
            f"{result.states:,} states{cut}, {time.monotonic() - start:.0f} s",
            markup=False,
        )
        broken += _show(console, result)
    if configurations:
        cut = f", {incomplete} not to the end" if incomplete else ""
        console.print(f"{len(configurations)} configurations, {states:,} states, {broken} broken{cut}")
    return broken


def _try(console: Console, mutants: Sequence[Mutant | Survivor]) -> int:
    broken = 0
    for mutant in mutants:
        with _progress(console, mutant.name) as report:
            trial = tried(mutant, report=report)
        console.print(f"without a rule, {mutant.name}: {trial.text}", markup=False)
        if not trial.is_as_expected:
            broken += max(_show(console, trial.explored), 1)
    if mutants:
        console.print(f"{len(mutants)} mutants, {broken} not as expected")
    return broken


def _walk(console: Console, configurations: Sequence[Configuration], seconds: float, seed: int) -> int:
    broken = 0
    with console.status(f"random walks for {seconds:.0f} s"):
        results = walked(configurations, seconds, seed=seed)
    for configuration, result in results:
        told = f"{result.broken or 'holds'}; {result.walks:,} walks, {result.steps:,} steps"
        console.print(f"random walks, {configuration.name}: {told}", markup=False)
        broken += _show(console, result)
    return broken


def _show(console: Console, result: Explored) -> int:
    """Show the steps that break a property; return 1 if there are any."""
    for number, step in enumerate(result.trace, start=1):
        console.print(f"  {number:3} {step}", markup=False)
    return 1 if result.broken else 0


@contextmanager
def _progress(console: Console, name: str) -> Generator[Report, None, None]:
    with console.status(name) as status:
        yield lambda taken, known: status.update(f"{name}: {taken:,} of {known:,} states known so far")


if __name__ == "__main__":
    sys.exit(main())
