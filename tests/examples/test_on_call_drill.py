"""The drill for on-call engineers: the doctor names each fault first, and the commands that are named repair it."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from dynamodb_outbox.cli.program import run
from examples.on_call_drill.channel import folder_of, socket_of
from examples.on_call_drill.deployment import Deployment
from examples.on_call_drill.drill import Drill, DrillError
from examples.on_call_drill.faults import FAULTS, draw
from examples.on_call_drill.scene import Fault
from tests.thorough import often

ROOT = Path(__file__).resolve().parents[2]
SIZE = 20
# Every day: a change of the table.
BY_DAY = sorted(FAULTS, key=lambda fault: fault.repair[0] != "dynamodb-outbox table ttl --enable --yes")
TRIED = BY_DAY[: often(1, thorough=len(FAULTS))]


@pytest.fixture
def cli(table_name: str, local_endpoint: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command of the command line on the table of the drill; returns its output and exit code."""

    async def invoke(*words: str) -> tuple[str, int]:
        where = ["--table", table_name, "--region", "us-east-1", "--endpoint-url", local_endpoint]
        capsys.readouterr()
        code = await asyncio.to_thread(run, [*where, *words])
        return capsys.readouterr().out, code

    return invoke


async def first_findings(cli: Any, fault: Fault) -> list[dict[str, Any]]:
    """Ask the doctor, and then once more with the option that it asks for."""
    found: list[dict[str, Any]] = []
    options: list[str] = []
    for _ in fault.checks:
        report = json.loads((await cli(*options, "--output", "json", "doctor", "--interval", "0"))[0])
        found.append(report["findings"][0])
        words = shlex.split(found[-1]["repair"][0], comments=True)
        options = words[words.index("--shards") :][:2] if "--shards" in words else []
    return found


@pytest.mark.parametrize("fault", TRIED, ids=lambda fault: fault.repair[0])
async def test_the_doctor_names_the_fault_and_the_commands_repair_it(
    fault: Fault, local_endpoint: str, table_name: str, tmp_path: Path, cli: Any
) -> None:
    async with Drill.opened(fault, endpoint=local_endpoint, table=table_name, folder=tmp_path, size=SIZE) as drill:
        assert fault.alert in drill.alert()
        unrepaired = await drill.check()
        assert unrepaired.code == 1
        assert fault.cause not in unrepaired.text
        found = await first_findings(cli, fault)
        assert tuple(finding["check"] for finding in found) == fault.checks, found
        for command in fault.repair:
            words = shlex.split(command)
            if words[0] == "service":
                assert (await drill.answer(platform_command(words))).code == 0
            else:
                assert any(" ".join(words[1:3]) in line for line in found[-1]["repair"]), found
                output, code = await cli(*words[1:])
                assert code == 0, output
        repaired = await drill.check(cause="I know it", wait=60)
        assert repaired.code == 0, repaired.text + drill.scene.deployment.log()
        assert fault.cause in repaired.text
        assert "I know it" in repaired.text


def platform_command(words: list[str]) -> dict[str, Any]:
    """Read a command of the platform, as the drill's command line sends it."""
    given: dict[str, Any] = {"command": "service", "action": words[1]}
    if words[1] == "deploy":
        given["release"] = words[2]
        given["shards"] = int(words[4]) if len(words) > 4 else None
    return given


def drill_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.on_call_drill", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.thorough
async def test_the_commands_of_a_terminal_reach_the_drill(
    local_endpoint: str, local_client: Any, table_name: str
) -> None:
    where = ("--table", table_name)
    started = drill_command("--endpoint", local_endpoint, *where, "--fault", "2")
    assert started.returncode == 0, started.stderr
    assert started.stdout.rstrip().endswith(FAULTS[1].alert)
    assert re.search(r"export AWS_REGION=(\S+) AWS_DEFAULT_REGION=\1$", started.stdout, re.MULTILINE)
    assert "a drill runs" in drill_command("--endpoint", local_endpoint, *where).stderr
    status = drill_command(*where, "service", "status").stdout
    pid = re.search(r"pid (\d+)", status)
    assert pid is not None, status
    assert psutil.Process(int(pid[1])).status() == psutil.STATUS_STOPPED
    check = drill_command(*where, "check", "--wait", "0")
    assert (check.returncode, "are not delivered" in check.stdout) == (1, True)
    end = drill_command(*where, "end")
    assert FAULTS[1].cause in end.stdout
    assert not psutil.pid_exists(int(pid[1]))
    assert not socket_of(folder_of(table_name)).exists()
    assert not await is_there(local_client, table_name)
    assert drill_command(*where, "check").returncode == 2


async def is_there(client: Any, table_name: str) -> bool:
    """Tell whether a table exists. A list has a hundred tables at most, and other tests have made more."""
    try:
        await client.describe_table(TableName=table_name)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


async def test_a_table_that_exists_is_left_alone(
    local_endpoint: str, local_client: Any, table_name: str, local_outbox: Any, tmp_path: Path
) -> None:
    with pytest.raises(DrillError, match="exists"):
        async with Drill.opened(FAULTS[0], endpoint=local_endpoint, table=table_name, folder=tmp_path):
            pass
    assert await is_there(local_client, table_name)


def test_a_table_of_aws_is_refused() -> None:
    refused = drill_command("--endpoint", "https://dynamodb.eu-central-1.amazonaws.com", "--table", "orders-outbox")
    assert refused.returncode == 2
    assert "not on this machine" in refused.stdout


def test_ten_turns_of_a_seed_have_each_fault_once() -> None:
    drawn = [draw(seed=7, turn=turn) for turn in range(1, 11)]
    assert sorted(map(FAULTS.index, drawn)) == list(range(10))
    assert drawn == [draw(seed=7, turn=turn) for turn in range(1, 11)]
    assert drawn != [draw(seed=8, turn=turn) for turn in range(1, 11)]
    assert draw(3) is FAULTS[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.repair[0])
def test_the_platform_does_not_give_the_fault_away(fault: Fault, tmp_path: Path) -> None:
    deployment = Deployment(
        endpoint="http://127.0.0.1:1", table="t-1", folder=tmp_path, releases=fault.releases, current=fault.current
    )
    shown = f"{deployment.status()}\n{deployment.releases()}\n{fault.alert}"
    assert f"* {fault.current}" in shown
    assert fault.cause not in shown
    assert deployment.deploy("9.9").startswith("there is no release '9.9'")
