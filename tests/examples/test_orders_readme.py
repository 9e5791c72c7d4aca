"""The README of the example of orders: its commands ship an order, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.examples.serving import ROOT, free_port

FOLDER = ROOT / "examples" / "orders"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
BIN = str(Path(sys.executable).parent)


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)", README)
    assert len(targets) > 5
    assert [target for target in targets if not (FOLDER / target).exists()] == []


@pytest.mark.thorough
async def test_the_commands_of_the_readme_ship_an_order(moto_endpoint: str) -> None:
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
    commands = [line.removeprefix("$ ") for line in blocks.splitlines() if line.startswith("$ ")]
    assert commands.pop(0).startswith("pip install ")
    commands.remove("moto_server -p 5000 &")
    assert shutil.which("moto_server", path=BIN)
    script = "\n".join(["set -e", *commands, "wait"]).replace("shop", f"shop-{uuid4().hex[:8]}")
    script = script.replace("http://127.0.0.1:5000", moto_endpoint).replace("8000", str(free_port()))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = ""
    try:
        while not output.endswith(": shipped\n"):
            line = await process.stdout.readline()
            assert line, output
            output += line.decode()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
    answers = [line for line in blocks.splitlines() if line.startswith("{")]
    assert len(answers) == 2
    assert [answer for answer in answers if answer not in output] == []
