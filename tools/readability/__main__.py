"""Check the prose and the lengths of the project: python -m tools.readability [--list [PATH ...]].

Exits with 1 where a limit of `tools/readability/limits.py` is exceeded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.readability.limits import line_limit
from tools.readability.survey import Code, Hit, Prose, survey_code, survey_prose

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Print the survey, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.readability", description="Check prose and lengths.")
    parser.add_argument("--list", nargs="*", metavar="PATH", help="list the markers, of all files or of these paths")
    listed: list[str] | None = parser.parse_args(arguments).list
    kinds, trees = survey_prose(root), survey_code(root)
    if listed is not None:
        _print_hits([hit for kind in kinds for hit in kind.hits if _is_below(hit.path, listed)])
    _print_rates(kinds)
    _print_lengths(trees)
    failures = [*_prose_failures(kinds), *_length_failures(trees)]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _is_below(path: Path, listed: list[str]) -> bool:
    return not listed or any(path.is_relative_to(name) for name in listed)


def _print_hits(hits: list[Hit]) -> None:
    for hit in sorted(hits, key=lambda hit: (hit.path, hit.line)):
        print(f"{hit.path}:{hit.line}: {hit.marker.name}: ... {hit.text} ...\n    {hit.marker.advice}")


def _print_rates(kinds: list[Prose]) -> None:
    print(f"{'prose':12} {'words':>7} {'markers':>8} {'per 1,000':>10} {'limit':>6}")
    for kind in kinds:
        print(f"{kind.name:12} {kind.words:7} {len(kind.hits):8} {kind.rate:10.1f} {kind.limit:6.1f}")


def _print_lengths(trees: list[Code]) -> None:
    for tree in trees:
        print(f"{tree.name}: longest file {tree.longest_file} ({tree.longest_file.lines} lines)", end="")
        if tree.longest_function:
            print(f", longest function {tree.longest_function} ({tree.longest_function.lines} lines)", end="")
        print()


def _prose_failures(kinds: list[Prose]) -> list[str]:
    return [
        f"{kind.name}: {kind.rate:.1f} markers per 1,000 words, the limit is {kind.limit:.1f}; "
        "list them with: python -m tools.readability --list"
        for kind in kinds
        if kind.rate > kind.limit
    ]


def _length_failures(trees: list[Code]) -> list[str]:
    return [
        f"{length} has {length.lines} lines, the limit is {line_limit(length)}; split it"
        for tree in trees
        for length in tree.too_long
    ]


if __name__ == "__main__":
    sys.exit(main())
