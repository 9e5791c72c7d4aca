"""Runs a soak from its start to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import uuid4

from aiobotocore.session import get_session

from dynamodb_outbox import DynamoDBOutbox, OutboxEventBus, WaitTimeoutError
from dynamodb_outbox.dynamodb.transport.client import tuned_client
from reliability import journal
from reliability.checker import HandlerRule, Limits, check, report
from reliability.history import CallsCounted, Record, WorkerStarted
from reliability.items import final_state
from reliability.journal import Journal
from reliability.proxy import running_proxy
from reliability.soak.leak_check import growth
from reliability.soak.ledger import Ledger
from reliability.soak.network_faults import NetworkFaults
from reliability.soak.process_pool import ProcessPool
from reliability.soak.soak_worker import Orders
from reliability.stream import read_account, switch_on

OPTIONS: Final[dict[str, Any]] = {
    "processing_timeout": 4.0,
    "poll_interval": 0.5,
    "base_backoff": 0.2,
    "max_retries": 12,
    "concurrency": 30,
}
LIMITS: Final = Limits(tolerance=0.1, slack=30.0, handlers={"long": HandlerRule(judges=True)})
QUIET_SECONDS: Final = 180.0
"""How long the waiting events may take to end after the last fault."""

Show = Callable[["Soak"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The length of a soak in seconds, the number of processes, and the emits per second of each process."""

    seconds: float
    workers: int
    rate: float
    seed: int
    folder: Path


class Soak:
    """A running soak, with its state for the display and its problems."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        plan.folder.mkdir(parents=True, exist_ok=True)
        self.journal = plan.folder / f"soak-{plan.seed}-{int(time.time())}.jsonl"
        self._offset = time.time() - time.monotonic()
        self._write = Journal(self.journal)
        self.ledger = Ledger(self.journal)
        self.phase = "starting"
        self.problems: list[str] = []
        self._table = f"soak-{uuid4().hex[:12]}"

    def now(self) -> float:
        """Return the time of the clock that all processes share."""
        return time.monotonic() + self._offset

    async def run(self, endpoint: str, show: Show) -> None:
        """Run on a backend, and collect problems."""
        chance = Random(self.plan.seed)
        async with tuned_client(region_name="us-east-1", endpoint_url=endpoint, connections=20) as client:
            outbox = DynamoDBOutbox(client, table_name=self._table)
            await outbox.create_table()
            await switch_on(client, table_name=self._table)
            async with running_proxy(endpoint) as proxy:
                self.network = NetworkFaults(proxy, client, self._write, now=self.now, chance=chance)
                self.pool = ProcessPool(self._orders(proxy.endpoint), self._write, now=self.now, chance=chance)
                try:
                    await self._soak(OutboxEventBus(outbox), show)
                finally:
                    self.pool.kill_all()
            self.phase = "judging"
            show(self)
            await self._record_result(client, endpoint)

    def _orders(self, endpoint: str) -> Orders:
        return Orders(
            name="",
            endpoint=endpoint,
            table=self._table,
            journal=str(self.journal),
            offset=self._offset,
            rate=self.plan.rate,
            handles=True,
            options=OPTIONS,
        )

    async def _soak(self, bus: OutboxEventBus, show: Show) -> None:
        self.pool.start(handles=False)
        for _ in range(self.plan.workers):
            self.pool.start()
        async with _showing(self, show):
            self.phase = "soaking"
            harming = [asyncio.create_task(harm()) for harm in (self.network.harm, self.pool.harm)]
            await asyncio.wait(harming, timeout=self.plan.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in harming:
                task.cancel()
            results = await asyncio.gather(*harming, return_exceptions=True)
            self.problems += [repr(result) for result in results if isinstance(result, Exception)]
            self.phase = "coming to its end"
            await self.pool.stop_emitting()
            await self._until_quiet(bus)
            await self.pool.stop_all()
        self.problems += self.pool.failed

    async def _until_quiet(self, bus: OutboxEventBus) -> None:
        """Replace the workers by workers that do not emit, and wait until no event waits."""
        await self.pool.replace_all(rate=0.0)
        with contextlib.suppress(WaitTimeoutError):  # the checker reports the remaining events
            await bus.drain(QUIET_SECONDS)

    async def _record_result(self, client: Any, endpoint: str) -> None:
        for operation, calls in self.network.requests.items():
            self._write(CallsCounted(at=self.now(), operation=operation, calls=calls))
        items: dict[str, Any] = {}
        async for page in client.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True):
            items |= {item["id"]["S"]: item for item in page["Items"]}
        create = get_session().create_client
        async with create("dynamodbstreams", region_name="us-east-1", endpoint_url=endpoint) as streams:
            account: list[Record] = list(await read_account(client, streams, table_name=self._table))
        history = sorted([*journal.read(self.journal), *account], key=attrgetter("at"))
        final = final_state(items.values(), at=self.now())
        violations = check(history, final, limits=LIMITS)
        if violations:
            self.problems.append(report(violations, history))
        if not any(isinstance(record, WorkerStarted) for record in history):
            self.problems.append("no worker has started, so the soak shows nothing")
        self.problems += growth(history)
        self.stored = len(final.events)


@asynccontextmanager
async def _showing(soak: Soak, show: Show) -> AsyncGenerator[None]:
    async def follow() -> None:
        while True:
            soak.ledger.follow()
            show(soak)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
