"""The programs that some tests run: those of Debian, and axe-core. The end of a test run names each that is missing.

REQUIRE_PROGRAMS=1 makes a missing one a failure. CHROMIUM names another browser than Debian's.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.backends import ENGINES

PACKAGES: Final = {"Chromium": "chromium", "promtool": "prometheus", "libfaketime": "faketime"}


def _found(program: str) -> str | None:
    if program == "Chromium":
        return os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program == "libfaketime":
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        return None if library is None else str(library)
    return shutil.which(program)


def path_of(program: str, config: pytest.Config) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    path = _found(program)
    if path is None:
        missing(program, f"{program} is not installed (Debian's package is {PACKAGES[program]})", config)
    config.stash[ENGINES].setdefault(program, "ran")
    return path


def missing(program: str, reason: str, config: pytest.Config) -> NoReturn:
    """Skip the test and note why; REQUIRE_PROGRAMS=1 makes it a failure."""
    config.stash[ENGINES][program] = f"DID NOT RUN: {reason}"
    if os.environ.get("REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"REQUIRE_PROGRAMS=1, but {reason}")
    pytest.skip(reason)
