"""Runs the command line in the process of the test, on an outbox in memory or on an emulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dynamodb_outbox import InMemoryOutbox
from dynamodb_outbox.cli.program import run
from dynamodb_outbox.cli.settings import Settings

TABLE = "events-outbox"


@dataclass(frozen=True)
class Ran:
    """What a command has written, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command. The names of tables and endpoints are arguments, as for a user."""

    def invoke(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run(list(arguments))
        written = capsys.readouterr()
        return Ran(code, written.out, written.err)

    return invoke


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> InMemoryOutbox:
    """The outbox in memory that all commands of a test open."""
    made = InMemoryOutbox(numbers="decimal", claim_on_emit=False)

    @asynccontextmanager
    async def connect(settings: Settings, **options: Any) -> AsyncGenerator[InMemoryOutbox]:
        assert settings.table_name == TABLE
        yield made

    monkeypatch.setattr(Settings, "connect", connect)
    monkeypatch.setenv("DYNAMODB_OUTBOX_TABLE", TABLE)
    return made


@pytest.fixture
def run_in_thread(cli: Cli) -> Callable[..., Any]:
    """Runs a command from an async test, on a loop of another thread."""

    async def invoke(*arguments: str) -> Ran:
        return await asyncio.to_thread(cli, *arguments)

    return invoke
