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

PACKAGES: Final = {
    "Chromium": "chromium",
    "promtool": "prometheus",
    "libfaketime": "faketime",
    "NATS": "nats-server",
    "Redis": "redis-server",
    "RabbitMQ": "rabbitmq-server",
}
_RABBITMQ: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's script in /usr/sbin wants to be root, and becomes another user."""
_COMMANDS: Final = {"NATS": "nats-server", "Redis": "redis-server"}


def _found(program: str) -> str | None:
    if program == "Chromium":
        return os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program == "libfaketime":
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        return None if library is None else str(library)
    if program == "RabbitMQ":
        return _RABBITMQ if Path(_RABBITMQ).exists() else None
    # Debian has some servers in /usr/sbin, where not every user looks.
    return shutil.which(_COMMANDS.get(program, program), path=f"{os.environ.get('PATH', '')}:/usr/sbin")


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
