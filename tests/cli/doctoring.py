"""Sets up faults on an emulator, and asks the doctor about them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from dynamodb_outbox import DynamoDBOutbox
from dynamodb_outbox.cli.doctor.diagnosis import Diagnosis, diagnose
from dynamodb_outbox.cli.doctor.evidence import Assumed, Evidence
from dynamodb_outbox.cli.doctor.gathering import Timing, gather
from dynamodb_outbox.cli.settings import Settings
from reliability.proxy import Proxy
from tests.adapter_timing import with_timing
from tests.dynamodb.dead_worker import DeadWorker
from tests.fakes import Clock

MINUTE = 60.0
VERSIONS = {"dynamodb-outbox": "0.1.0", "aiobotocore": "2.25.1", "python": "3.12.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientSettings(Settings):
    """Settings that open an outbox with much time for each call: the machine may pause at any moment."""

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncGenerator[DynamoDBOutbox]:
        async with Settings.connect(self, **options) as outbox:
            yield with_timing(outbox, holds=120, operator=60)


@dataclass
class Patient:
    """A table behind a proxy, and the ways in which it falls ill."""

    client: Any
    """A client that does not go through the proxy."""
    proxy: Proxy
    table: str
    settings: Settings
    # A busy machine is slow, and that is not the fault that a test is about.
    assumed: Assumed = field(default_factory=lambda: Assumed(slow=60))
    timing: Timing = field(default_factory=lambda: Timing(interval=0, part=60, call=60))

    async def create(self, **options: Any) -> DynamoDBOutbox:
        """Make a table in which nothing is wrong."""
        outbox = DynamoDBOutbox(self.client, table_name=self.table, retention=60, **options)
        await outbox.create_table()
        return outbox

    async def store(self, status: str = "PENDING", *, since: float = 0.0, **attributes: Any) -> str:
        """Store an event whose sort key is `since` seconds ago. An attribute that is None is left out."""
        item = {
            "id": {"S": str(uuid4())},
            "type": {"S": "order.placed"},
            "payload": {"M": {"n": {"N": "1"}}},
            "occurredAt": {"S": "2026-01-02T03:04:05+00:00"},
            "status": {"S": status},
            "retryCount": {"N": "0"},
            "gsiSortKey": millis(since),
        }
        item |= attributes
        item = {name: value for name, value in item.items() if value is not None}
        await self.client.put_item(TableName=self.table, Item=item)
        return str(item["id"]["S"])

    async def store_running(self, *, since: float, lease: float = 600.0, **attributes: Any) -> str:
        """Store an event that a worker holds."""
        claim = {"claimToken": {"S": "t"}, "claimedBy": {"S": "web-1/7/1"}, "startedOn": millis(since)}
        return await self.store("PROCESSING", since=-lease, **(claim | attributes))

    async def store_dead_letter(self, error: str, *, since: float = 60.0, **attributes: Any) -> str:
        """Store a dead letter."""
        return await self.store("FAILED", since=since, lastError={"S": error}, **attributes)

    async def dead_window(self, *, ended: float, region: str = "us-east-1") -> DeadWorker:
        """Store the window of a worker that has died."""
        clock = Clock()
        clock.now = time.time()
        worker = DeadWorker(self.client, self.table, clock, region=region)
        await worker.store_window(ended=ended)
        return worker

    async def examine(self, **options: Any) -> Evidence:
        """Let the doctor gather its evidence, without a second sample."""
        evidence = await gather(self.settings, self.assumed, self.timing, **options)
        evidence.versions = VERSIONS
        return evidence

    async def diagnose(self, **options: Any) -> Diagnosis:
        """Let the doctor make its diagnosis."""
        return diagnose(await self.examine(**options))

    async def first(self, **options: Any) -> Any:
        """Return what the doctor names first; it has evidence, a cause and a command."""
        diagnosis = await self.diagnose(**options)
        first = diagnosis.first
        assert first is not None, diagnosis
        assert first.evidence
        assert first.cause
        assert first.repair
        assert first.docs
        return first


def millis(ago: float) -> dict[str, str]:
    """A time as it is stored, so many seconds ago."""
    return {"N": str(round((time.time() - ago) * 1000))}
