"""How much the tests try: with THOROUGH=1, as the checks before a release do, more than every day.

Every day, three things are less. Tests that try something many times try it less often. Tests that are marked as
`thorough` do not run: they take ten seconds and more, of processes that die and of engines that fail. And a test that
runs on several engines, in several write modes or with several clients runs in one of these variants; a test next to it
runs in another one. With VARIANTS=all, it runs in all of them. A test that is named on the command line runs in any
case.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from typing import Final

import pytest

THOROUGH: Final = os.environ.get("THOROUGH") == "1"
ALL_VARIANTS: Final = os.environ.get("VARIANTS") == "all"
LEFT_OUT: Final = pytest.StashKey[tuple[int, int]]()
"""How many marked tests and how many variants did not run."""
_VARIANT: Final = re.compile(r"\b(moto|local|batch|single|auto|plain|connect|one attempt)\b")
_IN_THIS_PROCESS: Final = re.compile(r"\b(memory|simulated)\b")


def often(every_day: int, *, thorough: int) -> int:
    """Return how often a test tries something."""
    return thorough if THOROUGH else every_day


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove the tests that do not run every day, unless tests are asked for by their names."""
    config.stash[LEFT_OUT] = (0, 0)
    if THOROUGH or any("::" in argument for argument in config.args):
        return
    marked = [item for item in items if item.get_closest_marker("thorough") is not None]
    kept = [item for item in items if item not in set(marked)]
    variants: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in kept:
        function, _, variant = item.nodeid.partition("[")
        if _VARIANT.search(variant) and not ALL_VARIANTS and not _IN_THIS_PROCESS.search(variant):
            variants[f"{function}[{_VARIANT.sub('*', variant)}"].append(item)
    chosen = {of_test[zlib.crc32(name.encode()) % len(of_test)] for name, of_test in variants.items()}
    others = {item for of_test in variants.values() for item in of_test} - chosen
    left_out = [*marked, *others]
    config.stash[LEFT_OUT] = (len(marked), len(others))
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def what_was_left_out(config: pytest.Config) -> str:
    """Say how many tests did not run; an empty text if all did."""
    tests, variants = config.stash.get(LEFT_OUT, (0, 0))
    if not tests and not variants:
        return ""
    return f"{tests} long tests and {variants} variants of others run with THOROUGH=1 only"
