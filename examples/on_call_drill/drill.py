"""One drill, from the preparation of the table to its end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from examples.on_call_drill.channel import Answer
from examples.on_call_drill.deployment import Deployment
from examples.on_call_drill.scene import Fault, Scene
from examples.on_call_drill.service import REGION
from examples.on_call_drill.shop import Shop, open_client

SIZE: Final = 40
"""How many events of a type the shop emits."""
BRIEFING: Final = """\
You are on call for the service `orders`. Its outbox is the table {table}. In your shell, in this folder:

  export DYNAMODB_OUTBOX_TABLE={table} AWS_ENDPOINT_URL={endpoint}
  export AWS_REGION={region} AWS_DEFAULT_REGION={region}
  export AWS_ACCESS_KEY_ID=drill AWS_SECRET_ACCESS_KEY=drill
  {python} -m dynamodb_outbox doctor       (the command line: dynamodb-outbox)

Beside the command line you have the platform that the service runs on; each command explains itself with --help:

  {python} -m examples.on_call_drill service status|releases|log|start|stop|restart|deploy RELEASE|rollback

When you know the cause, and think that it is repaired:

  {python} -m examples.on_call_drill check --cause "what was wrong"

You have two minutes from now.

ALERT: {alert}"""


class DrillError(Exception):
    """The drill cannot be prepared; the message says why."""


class Drill:
    """A fault in a table, and the time since its alert."""

    def __init__(self, fault: Fault, scene: Scene, *, endpoint: str) -> None:
        self.fault = fault
        self.scene = scene
        self._endpoint = endpoint
        self._alerted = 0.0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, fault: Fault, *, endpoint: str, table: str, folder: Path, size: int = SIZE
    ) -> AsyncGenerator[Self]:
        """Prepare the fault; end the service and delete the table at the end of the block."""
        deployment = Deployment(
            endpoint=endpoint, table=table, folder=folder, releases=fault.releases, current=fault.current
        )
        async with open_client(endpoint) as client:
            shop = Shop(client, table, shards=fault.shards, size=size)
            drill = cls(fault, Scene(shop, deployment), endpoint=endpoint)
            if await shop.table_exists():
                raise DrillError(f"the table {table!r} exists: a drill makes one, and deletes it at its end")
            await shop.create_table(time_to_live=fault.has_time_to_live)
            try:
                await fault.prepare(drill.scene)
                yield drill
            finally:
                deployment.close()
                await client.delete_table(TableName=table)

    def alert(self) -> str:
        """Return what the engineer is told; the time runs from now on."""
        self._alerted = time.monotonic()
        return BRIEFING.format(
            table=self.scene.shop.table,
            endpoint=self._endpoint,
            region=REGION,
            python=sys.executable,
            alert=self.fault.alert,
        )

    async def answer(self, command: dict[str, Any]) -> Answer:
        """Carry out `service` or `check`."""
        if command["command"] == "check":
            return await self.check(cause=command["cause"], wait=command["wait"])
        return Answer(self._serve(**{name: value for name, value in command.items() if name != "command"}))

    async def check(self, *, cause: str = "", wait: float = 0.0) -> Answer:
        """Say whether the fault is repaired. A repair may need some seconds to take effect."""
        deadline = time.monotonic() + wait
        while unrepaired := await self.fault.unrepaired(self.scene):
            if time.monotonic() >= deadline:
                return Answer(f"Not repaired, {self._seconds():.0f} s after the alert: {unrepaired}.", code=1)
            await asyncio.sleep(0.5)
        named = f"You said: {cause}\n" if cause else ""
        return Answer(f"Repaired, {self._seconds():.0f} s after the alert.\n{named}{self.solution()}")

    def solution(self) -> str:
        """Say what the fault is, and what repairs it."""
        return f"The cause: {self.fault.cause}.\nIt is repaired by: {'; '.join(self.fault.repair)}"

    def _serve(self, action: str, *, release: str = "", shards: int | None = None) -> str:
        deployment = self.scene.deployment
        if action == "deploy":
            return deployment.deploy(release, shards=shards)
        actions = {
            "status": deployment.status,
            "releases": deployment.releases,
            "log": deployment.log,
            "start": deployment.start,
            "stop": deployment.stop,
            "restart": deployment.restart,
            "rollback": deployment.rollback,
        }
        return actions[action]()

    def _seconds(self) -> float:
        return time.monotonic() - self._alerted
