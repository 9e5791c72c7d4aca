"""The program as a whole: it starts quickly, reads options wherever they are, and exits with the code that it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynamodb_outbox.cli.program import hoisted, program
from dynamodb_outbox.cli.settings import Settings
from tests.cli.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("aiobotocore", "botocore", "aiohttp", "anyio", "rich", "jinja2", "importlib.metadata")
EXTRAS = ("click", "rich", "dynamodb_outbox.cli", "dynamodb_outbox.web", "dynamodb_outbox.integrations")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["failed", "retry", "--help"], ["completion", "bash"]])
def test_help_and_completion_import_nothing_heavy(arguments: list[str]) -> None:
    code = "import sys; from dynamodb_outbox.cli.program import run; code = run(sys.argv[1:]); "
    ran = python("-c", f"{code}print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)", *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    assert set(ran.stderr.split()).isdisjoint(HEAVY)


def test_help_needs_little_cpu() -> None:
    code = (
        "import sys, time; from dynamodb_outbox.cli.program import run; run(['--help']); "
        "print(time.process_time(), file=sys.stderr)"
    )
    # The best of five: CPU time also grows while other programs use the caches of the CPU.
    assert min(float(python("-c", code).stderr) for _ in range(5)) < 0.25


def test_library_imports_nothing_of_the_command_line() -> None:
    ran = python("-c", "import sys, dynamodb_outbox; dynamodb_outbox.OutboxEventBus; print(*sys.modules)")
    assert ran.returncode == 0, ran.stderr
    assert {name for name in ran.stdout.split() if name.startswith(EXTRAS)} == set()


def test_python_m_runs_it() -> None:
    ran = python("-m", "dynamodb_outbox", "version", "--output", "json")
    assert ran.returncode == 0, ran.stderr
    assert '"aiobotocore"' in ran.stdout


def test_without_click_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from dynamodb_outbox.cli.entry import main; main()"
    ran = python("-c", code)
    assert ran.returncode == 2
    assert "pip install 'dynamodb-outbox[cli]'" in ran.stderr


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["status", "--table", "t", "--watch", "5"], ["--table", "t", "status", "--watch", "5"]),
        (["events", "list", "-o", "json", "--output=jsonl"], ["-o", "json", "--output=jsonl", "events", "list"]),
        (["emit", "x", "--", "--table"], ["emit", "x", "--", "--table"]),
        (["status", "-q", "-v", "--no-color"], ["-q", "-v", "--no-color", "status"]),
        (["status", "--table"], ["--table", "status"]),
    ],
)
def test_global_options_may_come_after_the_command(given: list[str], wanted: list[str]) -> None:
    assert hoisted(given) == wanted


def test_no_command_has_an_option_of_the_program() -> None:
    own = {name for option in program.params for name in option.opts}

    def check(command: object) -> None:
        for child in getattr(command, "commands", {}).values():
            assert own.isdisjoint(name for option in child.params for name in option.opts), child.name
            check(child)

    check(program)


def test_every_changing_command_has_a_dry_run() -> None:
    changing = {"retry", "skip", "discard", "replace", "recover", "hold", "resume", "emit", "create", "ttl"}
    found = {}

    def collect(command: object) -> None:
        for name, child in getattr(command, "commands", {}).items():
            found[name] = {option for parameter in child.params for option in parameter.opts}
            collect(child)

    collect(program)
    assert {name for name, options in found.items() if "--dry-run" in options} == changing


def test_without_a_table_it_asks_for_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNAMODB_OUTBOX_TABLE", raising=False)
    ran = cli("status")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err == "error: name the table: --table NAME, or set DYNAMODB_OUTBOX_TABLE\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--table", "x"],
        ["nonsense"],
        ["events", "list", "--state", "lost", "--table", "t-1"],
        ["hold", "--table", "t-1", "--all", "--reason", "x", "--for", "soon"],
        ["failed", "list", "--table", "t-1", "--before", "yesterday"],
        ["failed", "retry", "--table", "t-1", "--all", "--rate", "fast"],
        ["status", "--table", "t-1", "--endpoint-url", "nonsense"],
    ],
)
def test_wrong_usage_exits_with_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert ran.err


def test_unreachable_exits_with_3_and_names_the_doctor(cli: Cli) -> None:
    ran = cli("status", "--table", "t-1", "--endpoint-url", "http://127.0.0.1:9", "--timeout", "1")
    assert ran.code == 3
    assert "did not answer" in ran.err or "dynamodb-outbox doctor" in ran.err
    assert "Traceback" not in ran.err


def test_verbose_shows_the_traceback(cli: Cli) -> None:
    ran = cli("status", "-v", "--table", "t-1", "--endpoint-url", "http://127.0.0.1:9", "--timeout", "1")
    assert ran.code == 3
    assert "Traceback" in ran.err


def test_commands_that_are_printed_can_be_pasted_into_a_shell() -> None:
    settings = Settings(table="events-outbox", region="eu-west-1", profile="on call", shards=8)
    assert settings.command("events", "show", "it's #1") == (
        "dynamodb-outbox --table events-outbox --region eu-west-1 --profile 'on call' --shards 8 "
        "events show 'it'\"'\"'s #1'"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_for_this_program(cli: Cli, shell: str) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    assert "_DYNAMODB_OUTBOX_COMPLETE" in ran.out


def test_completion_completes_commands_and_options() -> None:
    environment = {"_DYNAMODB_OUTBOX_COMPLETE": "bash_complete", "COMP_WORDS": "dynamodb-outbox fa", "COMP_CWORD": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "dynamodb_outbox"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout.strip() == "plain,failed"


@pytest.mark.parametrize("arguments", ["template cloudformation", "version"])
def test_a_reader_that_ends_early_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m dynamodb_outbox {arguments} | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 141
