"""Break the library in one place after the other, and see that a test notices: `python -m reliability.mutants`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reliability.mutants.catalogue import MUTANTS
from reliability.mutants.mutant import Mutant
from reliability.mutants.trial import Outcome, try_mutant, try_unbroken
from tools import dynamodb_local

AT_ONCE: Final = 2


def main() -> int:
    """Try the mutants; 0 if each of them was noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="try the mutants whose name contains this text")
    only: str = parser.parse_args().only
    mutants = [mutant for mutant in MUTANTS if only in mutant.name]
    console = Console()
    with dynamodb_local.running(quick=True) as endpoint:
        # One backend for all trials: to start it takes longer than most of them.
        os.environ["DYNAMODB_LOCAL_ENDPOINT"] = endpoint
        outcomes = _try_all(mutants, console)
    missed = [outcome for outcome in outcomes if not outcome.is_good]
    for outcome in missed:
        console.print(f"[red]{outcome.name}[/]: ", end="")
        console.print(outcome.reason, markup=False)
    noticed = len(outcomes) - len(missed)
    console.print(f"{noticed} of {len(mutants)} mutants were noticed by the test that has to")
    return 0 if noticed == len(mutants) else 1


def _try_all(mutants: Sequence[Mutant], console: Console) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        task = progress.add_task("the unbroken library", total=1 + len(mutants))
        unbroken = try_unbroken(sorted({mutant.test for mutant in mutants}))
        progress.advance(task)
        if not unbroken.is_good:
            return [unbroken]
        progress.update(task, description="mutants")
        trials = {pool.submit(try_mutant, mutant): mutant for mutant in mutants}
        for trial in as_completed(trials):
            outcome = trial.result()
            outcomes.append(outcome)
            progress.advance(task)
            mark = "[green]noticed[/]" if outcome.is_good else "[red]MISSED[/]"
            progress.console.print(f"{mark} row {trials[trial].row}: {outcome.name}")
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
