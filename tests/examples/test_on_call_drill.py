"""The drill for on-call engineers: the doctor names each fault first, and the commands that are named repair it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox.cli.program import run
from examples.on_call_drill import channel
from examples.on_call_drill.drill import Drill
from examples.on_call_drill.faults import FAULTS, draw
from examples.on_call_drill.scene import Fault
from tests.thorough import THOROUGH

ROOT = Path(__file__).resolve().parents[2]
SIZE = 20
EVERY_DAY = ("workers", "retries", "time to live")
"""The first finding of the faults that are tried every day: with and without a service, and the table itself."""
TRIED = [fault for fault in FAULTS if THOROUGH or fault.checks[0] in EVERY_DAY]


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
    """Ask the doctor, and then once more with each option that it asks for."""
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
                answer = await drill.answer(platform_command(words))
                assert answer.code == 0
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
