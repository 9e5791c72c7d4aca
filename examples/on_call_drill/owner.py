"""The process that owns a drill, in the background: it prepares the table, runs the service, and answers commands.

It ends after a command `end`, after SIGTERM, and after half an hour, and takes the service with it.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError

from dynamodb_outbox import OutboxError
from examples.on_call_drill.channel import Answer, socket_of
from examples.on_call_drill.drill import Drill, DrillError
from examples.on_call_drill.faults import FAULTS, draw


def main() -> None:
    """Own a drill until its end. The only line of the output is the answer to the command that started it."""
    parser = argparse.ArgumentParser()
    for option in ("endpoint", "table"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--fault", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--minutes", type=float, required=True)
    given = parser.parse_args()
    if problem := _problem(given.endpoint, given.fault):
        _say(Answer(problem, code=2))
        shutil.rmtree(given.folder)
        return
    os.environ |= {"AWS_ACCESS_KEY_ID": "drill", "AWS_SECRET_ACCESS_KEY": "drill"}
    asyncio.run(own(given))


def _problem(endpoint: str, fault: int | None) -> str:
    """Refuse to do damage to a table of AWS."""
    host = urlsplit(endpoint).hostname or ""
    is_here = host == "localhost"
    with suppress(ValueError):
        is_here = is_here or ipaddress.ip_address(host).is_loopback
    if not is_here:
        return f"{endpoint} is not on this machine: a drill breaks a table, and runs on DynamoDB Local only"
    if fault is not None and not 1 <= fault <= len(FAULTS):
        return f"--fault is a number from 1 to {len(FAULTS)}"
    return ""


def _say(answer: Answer) -> None:
    """Write to the command that started this process, and let go of it."""
    os.write(1, answer.encode())
    os.dup2(0, 1)


async def own(given: argparse.Namespace) -> None:
    """Prepare the drill, and answer commands until its end."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    fault = draw(given.fault, seed=given.seed, turn=given.round)
    path = socket_of(given.folder)
    where = {"endpoint": given.endpoint, "table": given.table, "folder": given.folder}
    try:
        async with Drill.opened(fault, **where) as drill:
            server = await asyncio.start_unix_server(lambda *streams: _serve(drill, over, *streams), path)
            _say(Answer(drill.alert()))
            with suppress(TimeoutError):
                async with asyncio.timeout(given.minutes * 60):
                    await over.wait()
        # The command `end` waits for this, so it comes after the end of the drill.
        server.close()
    except (BotoCoreError, DrillError, OSError, OutboxError) as error:
        _say(Answer(f"drill: {error}", code=2))
    shutil.rmtree(given.folder)


async def _serve(drill: Drill, over: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    if not line:
        # Somebody asked whether a drill runs.
        writer.close()
        return
    command = json.loads(line)
    if command["command"] == "end":
        answer = Answer(f"{drill.solution()}\nThe service is ended, and the table {drill.scene.shop.table} is deleted.")
        over.set()
    else:
        answer = await drill.answer(command)
    writer.write(answer.encode())
    with suppress(ConnectionError):
        await writer.drain()
    writer.close()


if __name__ == "__main__":
    main()
