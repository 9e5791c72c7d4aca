"""The mutants fit the code and the tests as they are now; `make mutants` tries them."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from reliability.mutants.catalogue import MUTANTS
from reliability.mutants.mutant import PACKAGE, ROOT, Mutant, StaleMutantError
from reliability.mutants.trial import try_mutant, try_unbroken
from tests.thorough import EVERY_CASE

BACKOFF = Mutant(
    row=0,
    name="polls back off by the wrong factor",
    file="worker/backoff.py",
    text="interval * 2 ** min(errors, 60)",
    replacement="interval * 3 ** min(errors, 60)",
    test="tests/unit/test_backoff.py",
)


@pytest.mark.cases(EVERY_CASE)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_breaks_code_that_is_there_and_names_a_test_that_is_there(mutant: Mutant) -> None:
    code = (ROOT / PACKAGE / mutant.file).read_text()
    assert ast.dump(ast.parse(mutant.apply(code))) != ast.dump(ast.parse(code))
    file, _, test = mutant.test.partition("::")
    functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
    assert test.partition("[")[0] in functions


def test_names_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_text_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StaleMutantError, match=r"0 times in worker/backoff\.py"):
        replace(BACKOFF, text="interval * 4").make(tmp_path)


@pytest.mark.thorough
def test_only_an_assertion_of_the_test_counts_as_noticed() -> None:
    assert try_unbroken([BACKOFF.test]).is_good
    assert try_mutant(BACKOFF).is_good
    survivor = try_mutant(replace(BACKOFF, replacement="interval * 2 ** min(errors, 61)"))
    assert (survivor.is_good, survivor.reason.startswith("SURVIVED")) == (False, True)
    crash = try_mutant(replace(BACKOFF, replacement="interval * two ** min(errors, 60)"))
    assert (crash.is_good, "failed by no assertion" in crash.reason) == (False, True)
    broken = try_mutant(replace(BACKOFF, replacement="interval *"))
    assert (broken.is_good, "no test ran" in broken.reason) == (False, True)
