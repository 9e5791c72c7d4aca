"""The dashboard of the demo, in a process of its own: `make demo DASHBOARD=1`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import anyio

from dynamodb_outbox.web import serve
from examples.demo.plan import Plan
from examples.demo.processes import Children, end_with_parent, first_line

PORT: Final = 8765


async def start_dashboard(children: Children, plan: Plan) -> str:
    """Start the dashboard; its address, once it listens. Raises `DemoError`."""
    name = "the dashboard"
    child = children.start(name, "examples.demo.dashboard", plan.arguments(name), log=plan.log_file("dashboard"))
    return await first_line(child)


async def wait_for_enter(question: str) -> None:
    """Ask the user of a terminal to press Enter; do nothing if nobody is there to press it."""
    if sys.stdin.isatty():
        print(question, flush=True)
        await anyio.wait_readable(sys.stdin)
        sys.stdin.readline()


async def _serve(plan: Plan) -> None:
    async with plan.connect() as outbox:
        await serve(outbox, port=PORT, environment="demo", on_started=lambda address: print(address, flush=True))


def main() -> None:
    """Serve until the parent ends; the first line of the output is the address."""
    end_with_parent()
    plan, _ = Plan.of_arguments()
    try:
        asyncio.run(_serve(plan))
    except OSError as error:
        sys.exit(f"port {PORT} cannot be used: {error}")


if __name__ == "__main__":
    main()
