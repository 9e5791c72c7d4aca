"""The pages about the command line: every command of them runs, and every link of the doctor leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.cli.doctor.checks import CHECKS, RISKS
from dynamodb_outbox.cli.program import program
from dynamodb_outbox.cli.settings import Settings
from tests.cli.doctoring import Patient
from tests.docs.test_pages import anchors_of
from tests.dynamodb.lines import line_of
from tests.fakes import Clock

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
PAGES = ("command-line.md", "on-call.md")
SOURCES = sorted((ROOT / "src" / "dynamodb_outbox" / "cli").rglob("*.py"))


def commands_of(page: str) -> list[str]:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    return re.findall(r"^ *\$ dynamodb-outbox (.*)$", text, re.MULTILINE)


@pytest.fixture
async def table(moto_client: Any, table_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table with the dead letters that the pages name; files are written to a folder of the test."""
    await DynamoDBOutbox(moto_client, table_name=table_name).create_table()
    patient: Any = Patient(moto_client, None, table_name, Settings())  # type: ignore[arg-type]
    for number, event_type in ((17, "order.placed"), (18, "order.placed"), (19, "order.placed"), (20, "order.tested")):
        error = {"errorType": {"S": "KeyError"}, "errorHandler": {"S": "ship"}}
        await patient.store_dead_letter(
            "ship: KeyError: 'a'", id={"S": f"order-{number}"}, type={"S": event_type}, **error
        )
    line = line_of(moto_client, table_name, Clock())
    await line.emit("order-21", "order-22", key="customer-4")
    await line.block(key="customer-4")
    monkeypatch.chdir(tmp_path)
    return table_name


@pytest.mark.parametrize("page", PAGES)
async def test_every_command_runs(page: str, table: str, moto_endpoint: str, run_in_thread: Any) -> None:
    options = ["--table", table, "--region", "us-east-1", "--endpoint-url", moto_endpoint]
    commands = commands_of(page)
    assert len(commands) > 8
    for command in commands:
        words = shlex.split(re.split(r" [|>] ", command)[0])
        if "--watch" in words or words[:2] == ["events", "tail"]:
            # It goes on until Ctrl-C. With --help nothing is done, but options that do not exist are refused.
            words.append("--help")
        ran = await run_in_thread(*words, *options)
        # `doctor` finds events that wait, as no worker runs.
        assert ran.code == 0 or words[0] in ("doctor", "status"), (command, ran)
        assert ran.code in (0, 1), (command, ran)


def test_every_command_is_listed() -> None:
    table = (HOW_TO / "command-line.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    for name, command in program.commands.items():
        assert f"`{name}" in table, name
        for child in getattr(command, "commands", {}):
            assert re.search(rf"`({name} )?{child}\b", table), (name, child)


def test_every_global_option_is_listed() -> None:
    page = (HOW_TO / "command-line.md").read_text(encoding="utf-8").partition("## Options of all commands")[2]
    for option in program.params:
        assert f"`{option.opts[0]}`" in page.partition("\n## ")[0], option.name


def test_every_check_is_explained() -> None:
    page = (HOW_TO / "on-call.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))
    explained = set(re.findall(r"`([^`]+)`", rows))
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    checks = set(re.findall(r'(?:check=|ok\(|skip\()"([^"]+)"', text))
    assert explained == checks
    assert len(checks) == len(CHECKS) + len(RISKS)


def test_every_link_of_the_doctor_leads_somewhere() -> None:
    links = {link for path in SOURCES for link in re.findall(r'"(docs/[^"\s]+)"', path.read_text(encoding="utf-8"))}
    assert len(links) > 10
    for link in links:
        page, _, anchor = link.partition("#")
        assert (ROOT / page).exists(), link
        assert not anchor or anchor in anchors_of(ROOT / page), link
