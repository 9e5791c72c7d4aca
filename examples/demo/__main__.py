"""Emit 1,000 events, deliver them with three worker processes, kill one of these, and see that nothing is lost.

python -m examples.demo [--endpoint URL] [--events PATH.jsonl] [--dashboard]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from aiobotocore.session import get_session

from dynamodb_outbox import Event, OutboxError
from examples.demo.conduct import Conductor
from examples.demo.dashboard import PORT, start_dashboard, wait_for_enter
from examples.demo.display import display_for_stdout
from examples.demo.engine import start_engine, use_fake_credentials
from examples.demo.events import make_events, read_events, write_events
from examples.demo.history import HistoryReader
from examples.demo.plan import REGION, DemoError, Plan
from examples.demo.processes import Child, Children
from examples.demo.summary import summarise
from examples.demo.verdict import judge

EVENTS: Final = 1000
WORKERS: Final = 3


def main() -> int:
    """Run the demo; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--endpoint", help="an engine that runs already (default: a moto server of our own)")
    parser.add_argument("--events", type=Path, help='a JSON Lines file of {"type": ..., "payload": ...}')
    parser.add_argument("--dashboard", action="store_true", help=f"show the events at http://127.0.0.1:{PORT}/, too")
    given = parser.parse_args()
    try:
        events = read_events(given.events) if given.events else make_events(EVENTS)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="outbox-demo-"))
    code = 1
    try:
        write_events(folder / "events.jsonl", events)
        use_fake_credentials(endpoint=given.endpoint)
        code = asyncio.run(run(events, folder=folder, endpoint=given.endpoint, dashboard=given.dashboard))
    except (DemoError, OutboxError) as error:
        print(f"demo: {error}", file=sys.stderr)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("demo: interrupted; its processes are ended", file=sys.stderr)
        code = 130
    finally:
        if code == 1:
            print(f"demo: the histories and logs are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


async def run(events: list[Event], *, folder: Path, endpoint: str | None, dashboard: bool = False) -> int:
    """Start the processes and follow them to the end; the exit code."""
    started = time.monotonic()
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    display = display_for_stdout()
    with Children() as engines:
        table = "outbox-demo" if endpoint is None else f"outbox-demo-{uuid4().hex[:8]}"
        if endpoint is None:
            display.say("Starting a moto server, then the workers ...")
            endpoint = await start_engine(engines, log=folder / "engine.log")
        plan = Plan(endpoint=endpoint, table=table, folder=folder)
        display.say(f"{len(events):,} events, table {table} at {endpoint}")
        async with plan.connect() as outbox:
            await outbox.create_table()
            if dashboard:
                address = await start_dashboard(engines, plan)
                display.say(f"The dashboard is at {address}")
                await wait_for_enter("Open it, and press Enter: the story takes half a minute ...")
                started = time.monotonic()
            with Children() as children:
                conductor = Conductor(
                    outbox=outbox,
                    history=HistoryReader(folder),
                    workers=[_start(children, plan, "worker", f"worker {number + 1}") for number in range(WORKERS)],
                    emitter=_start(children, plan, "emitter", "emitter"),
                    total=len(events),
                    display=display,
                    started=started,
                )
                with display.opened():
                    await conductor.run()
                    await conductor.stop_workers()
        statuses = await scan(plan)
        seconds = time.monotonic() - started
        verdict = judge(expected=len(events), ledger=conductor.ledger, statuses=statuses, kill=conductor.kill)
        for line in summarise(verdict, ledger=conductor.ledger, kill=conductor.kill, seconds=seconds):
            print(line)
        print(verdict.line)
        if dashboard:
            await wait_for_enter("The dashboard stays open until you press Enter ...")
    return verdict.exit_code


def _start(children: Children, plan: Plan, module: str, name: str) -> Child:
    return children.start(name, f"examples.demo.{module}", plan.arguments(name), log=plan.log_file(name))


async def scan(plan: Plan) -> dict[str, str]:
    """Read the status of every event in the table, by id; the item in which workers announce themselves has none."""
    statuses: dict[str, str] = {}
    async with get_session().create_client("dynamodb", region_name=REGION, endpoint_url=plan.endpoint) as client:
        pages = client.get_paginator("scan").paginate(
            TableName=plan.table,
            ConsistentRead=True,
            ProjectionExpression="id, #status",
            ExpressionAttributeNames={"#status": "status"},
        )
        async for page in pages:
            statuses |= {item["id"]["S"]: item["status"]["S"] for item in page["Items"] if "status" in item}
    return statuses


if __name__ == "__main__":
    sys.exit(main())
