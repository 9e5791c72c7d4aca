"""A pytest plugin that records whether a test failed in one of its assertions or with another error.

Load it with `-p reliability.mutants.verdict`. Environment variables name the copy of the library under test, and the
file for the result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import dynamodb_outbox

SOURCE: Final = "MUTANT_SOURCE"
REPORT: Final = "MUTANT_REPORT"

_seen: dict[str, list[str]] = {"passed": [], "by assertion": [], "otherwise": []}


def pytest_configure() -> None:
    """See to it that the copy is what is tested."""
    imported = Path(dynamodb_outbox.__file__).resolve()
    if not imported.is_relative_to(Path(os.environ[SOURCE]).resolve()):
        raise pytest.UsageError(f"the library was imported from {imported}, not from the copy")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Note how a test ended."""
    if call.excinfo is not None:
        is_asserted = call.when == "call" and _is_assertion(call.excinfo.value)
        _seen["by assertion" if is_asserted else "otherwise"].append(f"{item.nodeid}: {call.excinfo.exconly()[:300]}")
    elif call.when == "call":
        _seen["passed"].append(item.nodeid)
    return (yield)


def pytest_sessionfinish() -> None:
    """Write down what was seen."""
    Path(os.environ[REPORT]).write_text(json.dumps(_seen))


def _is_assertion(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_is_assertion(member) for member in error.exceptions)
    return isinstance(error, (AssertionError, pytest.fail.Exception))
