"""Every command of the runbook is one that the command line takes, with these options."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.telemetry.test_dashboards import RUNBOOK_PAGE

CliRunner = pytest.importorskip("click.testing").CliRunner
program = pytest.importorskip("dynamodb_outbox.cli.program").program

PLACEHOLDERS = {"ID": "order-1", "TYPE": "order.placed", "TEXT": "unwanted"}
_COMMAND = re.compile(r"(?:`|^\$ )dynamodb-outbox ([^`\n]+)", re.MULTILINE)


def commands() -> list[str]:
    found = _COMMAND.findall(RUNBOOK_PAGE.read_text(encoding="utf-8"))
    return sorted(set(found))


def test_the_runbook_has_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("command", commands())
def test_command_is_taken(command: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    # With --help nothing is done, but options that do not exist are refused.
    ran = CliRunner().invoke(program, [*words, "--help"])
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("Usage:")


def test_command_that_does_not_exist_is_refused() -> None:
    assert CliRunner().invoke(program, ["failed", "retry", "--everything", "--help"]).exit_code == 2
