"""Running the tests of a copy of the library, and judging what they said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reliability.mutants.mutant import ROOT, Mutant, copy_of_library
from reliability.mutants.verdict import REPORT, SOURCE

TRIAL_SECONDS: Final = 120.0
UNBROKEN_SECONDS: Final = 900.0
"""The tests of all mutants run in one go on the unbroken library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a trial: whether the test failed as it must, and the reason if it did not."""

    name: str
    is_good: bool
    reason: str


def try_unbroken(tests: Sequence[str]) -> Outcome:
    """Run the tests on an unbroken copy, which all of them have to pass."""
    with tempfile.TemporaryDirectory() as folder:
        seen, output = _run(copy_of_library(Path(folder)), Path(folder), tests, seconds=UNBROKEN_SECONDS)
    failed = seen["by assertion"] + seen["otherwise"]
    is_good = not failed and len(seen["passed"]) >= len(tests)
    return Outcome(name="unbroken", is_good=is_good, reason="" if is_good else "\n".join(failed) or output)


def try_mutant(mutant: Mutant) -> Outcome:
    """Run the test of a mutant, which must fail in one of the test's assertions. Raises `StaleMutantError`."""
    with tempfile.TemporaryDirectory() as folder:
        seen, output = _run(mutant.make(Path(folder)), Path(folder), [mutant.test])
    if seen["by assertion"]:
        return Outcome(name=mutant.name, is_good=True, reason=seen["by assertion"][0])
    if seen["otherwise"]:
        return Outcome(name=mutant.name, is_good=False, reason=f"failed by no assertion: {seen['otherwise'][0]}")
    reason = f"SURVIVED: {mutant.test} passed" if seen["passed"] else f"no test ran:\n{output}"
    return Outcome(name=mutant.name, is_good=False, reason=reason)


def _run(
    source: Path, folder: Path, tests: Sequence[str], *, seconds: float = TRIAL_SECONDS
) -> tuple[dict[str, list[str]], str]:
    report = folder / "report.json"
    path = os.pathsep.join([str(source), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, SOURCE: str(source), REPORT: str(report)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "reliability.mutants.verdict", "-p", "no:cacheprovider"]
    try:
        ended = subprocess.run(
            [*command, *tests],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        output = (ended.stdout + ended.stderr)[-2000:]
    except subprocess.TimeoutExpired:
        output = f"the tests were not through after {seconds:g} s"
    empty: dict[str, list[str]] = {"passed": [], "by assertion": [], "otherwise": []}
    return (json.loads(report.read_text()) if report.exists() else empty), output
