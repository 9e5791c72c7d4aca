"""How much the tests try: with THOROUGH=1, as the checks before a release do, more than every day.

With THOROUGH=1, only one thing is less than with EVERYTHING=1: of a test with many parameters and variants, six run,
unless it is a test of a unit or of the documentation, or has a number of its own.

Every day, four things are less. Tests that try something many times try it less often. Tests that are marked as
`thorough` do not run: they take ten seconds and more, of processes that die and of engines that fail. A test that
runs on several engines, in several write modes or with several clients runs in one of these variants; a test next to it
runs in another one. And a test with many parameters runs with one of them, unless it is a test of a
unit or of the documentation, or is marked with another number, `@pytest.mark.cases(12, thorough=24)`; without
`thorough`, all of them run with THOROUGH=1. What is chosen depends on nothing but the names of the tests and the
version of Python. A test that is named on the command line runs in any case.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import pytest

EVERYTHING: Final = os.environ.get("EVERYTHING") == "1"
THOROUGH: Final = EVERYTHING or os.environ.get("THOROUGH") == "1"
LEFT_OUT: Final = pytest.StashKey[tuple[int, int]]()
"""How many marked tests and how many variants and parameters did not run."""
CASES: Final = 1
"""With so many parameters a test runs every day."""
THOROUGH_CASES: Final = 6
EVERY_CASE: Final = 1_000
_SHORT: Final = ("tests/unit/", "tests/docs/")
_VARIANT: Final = re.compile(r"\b(moto|local|batch|single|auto|plain|connect|one attempt)\b")
_IN_THIS_PROCESS: Final = re.compile(r"\b(memory|simulated)\b")


def often(every_day: int, *, thorough: int) -> int:
    """Return how often a test tries something."""
    return thorough if THOROUGH else every_day


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove the tests that do not run every day, unless tests are asked for by their names."""
    config.stash[LEFT_OUT] = (0, 0)
    if EVERYTHING or any("::" in argument for argument in config.args):
        return
    wanted = [item for item in items if THOROUGH or item.get_closest_marker("thorough") is None]
    kept = set(_few_cases(wanted if THOROUGH else list(_one_variant_each(wanted))))
    config.stash[LEFT_OUT] = (len(items) - len(wanted), len(wanted) - len(kept))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _one_variant_each(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Choose one of the variants of each test, and all that need no engine."""
    variants: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        function, _, variant = item.nodeid.partition("[")
        if _VARIANT.search(variant) and not _IN_THIS_PROCESS.search(variant):
            variants[f"{function}[{_VARIANT.sub('*', variant)}"].append(item)
        else:
            yield item
    for name, of_test in variants.items():
        yield of_test[_draw(name) % len(of_test)]


def _few_cases(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Choose a few of the parameters of each test."""
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    for name, of_test in tests.items():
        marker = of_test[0].get_closest_marker("cases")
        is_short = name.startswith(_SHORT)
        every_day = marker.args[0] if marker else EVERY_CASE if is_short else CASES
        thorough = EVERY_CASE if is_short else THOROUGH_CASES
        thorough = marker.kwargs.get("thorough", EVERY_CASE) if marker else thorough
        few = thorough if THOROUGH else every_day
        yield from sorted(of_test, key=lambda item: _draw(item.nodeid))[:few]


def _draw(name: str) -> int:
    """Draw a number for a name: the same in each process of a run, another one for another version of Python."""
    return zlib.crc32(f"{sys.version_info.minor} {name}".encode())


def what_was_left_out(config: pytest.Config) -> str:
    """Say how many tests did not run; an empty text if all did."""
    tests, variants = config.stash.get(LEFT_OUT, (0, 0))
    if not tests and not variants:
        return ""
    more = "EVERYTHING=1" if THOROUGH else "THOROUGH=1 or EVERYTHING=1"
    return f"{tests} long tests and {variants} variants and parameters of others run with {more} only"
