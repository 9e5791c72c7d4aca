"""What is needed goes away for a while: credentials, the table, its index, connections, the client."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    ClientClosedError,
    CredentialsError,
    DynamoDBOutbox,
    Event,
    OutboxEventBus,
    PollingError,
)
from dynamodb_outbox.dynamodb.transport import retrying
from dynamodb_outbox.observers import LeaseLost, LeaseRenewed
from reliability.proxy import Proxy, Recorded, refused
from tests.backends import open_client
from tests.conftest import MakeOutbox
from tests.reliability.proxy_rules import Runs, eventually

EXPIRED = refused("ExpiredTokenException", "The security token included in the request is expired")


async def test_worker_pauses_while_credentials_are_expired_and_resumes(
    make_outbox: MakeOutbox, local_client: Any, proxy: Proxy, table: str
) -> None:
    errors: list[Any] = []
    outbox = make_outbox(on_error=errors.append)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    async with bus:
        await bus.emit("order.placed", id="before")
        await bus.drain(20)
        proxy.rule = lambda request: EXPIRED
        before = len(proxy.requests)
        await DynamoDBOutbox(local_client, table_name=table).publish([Event("order.placed", id="meanwhile")])
        await eventually(lambda: sum(error.loop == "polling" for error in errors) >= 3)
        with pytest.raises(CredentialsError):
            await bus.emit("order.placed", id="refused")
        assert bus.running
        # Asking again is of no use: one call a look, and each look waits twice as long.
        assert len(proxy.requests) - before <= len(errors) + 3
        proxy.rule = lambda request: None
        await eventually(lambda: len(runs.ids) == 2)
        await bus.drain(20)
    assert runs.ids == ["before", "meanwhile"]
    assert {type(error) for error in errors} == {PollingError}
    assert {type(error.__cause__) for error in errors} == {CredentialsError}


async def test_pool_that_handlers_use_up_is_warned_of_and_renewals_take_their_turn(
    local_endpoint: str, proxy: Proxy, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = 5
    told: list[Any] = []

    async def slowly(request: Recorded) -> None:
        await anyio.sleep(0.02)

    def renewed() -> set[str]:
        return {fact.event_id for fact in told if isinstance(fact, LeaseRenewed)}

    proxy.rule = lambda request: slowly(request) if request.operation == "GetItem" else None
    async with open_client(proxy.endpoint, max_pool_connections=2) as client:
        outbox = DynamoDBOutbox(
            client,
            table_name=table,
            conditional_writes="batch",
            concurrency=handlers,
            processing_timeout=9,
            observers=[told.append],
        )
        bus = OutboxEventBus(outbox)
        runs = Runs()

        @bus.on("order.placed", timeout=60)
        async def busy(event: Event) -> None:
            await runs(event)
            while event.id not in renewed():
                await client.get_item(TableName=table, Key={"id": {"S": event.id}})
                # aiohttp gives a free connection to whoever asks at once, before those that wait for it.
                await anyio.sleep(0.01)

        await outbox.publish([Event("order.placed", id=f"e{n}") for n in range(handlers)])
        async with bus:
            await eventually(lambda: len(runs.ids) == handlers)
            await bus.drain(30)
    assert any("its pool of 2 connections is small for 5 handlers" in record.getMessage() for record in caplog.records)
    assert set(runs.counts.values()) == {1}
    assert renewed() == set(runs.ids)
    assert not [fact for fact in told if isinstance(fact, LeaseLost)]


async def test_client_that_is_closed_under_a_worker_is_reported_and_leaks_nothing(
    local_endpoint: str, table: str
) -> None:
    errors: list[Any] = []
    tasks = asyncio.all_tasks()
    async with open_client(local_endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table, poll_interval=0.02, on_error=errors.append)
        bus = OutboxEventBus(outbox)
        bus.on("order.placed", Runs())
        await bus.start()
        await bus.emit("order.placed")
        await bus.drain(20)
    await eventually(lambda: len(errors) >= 2)
    with pytest.raises(ClientClosedError):
        await bus.emit("order.placed")
    with anyio.fail_after(20):
        await bus.stop()
    assert {type(error.__cause__) for error in errors} == {ClientClosedError}
    assert asyncio.all_tasks() == tasks


class OfAnotherLoop:
    """A client whose connections belong to a loop that is not this one."""

    def __init__(self, message: str) -> None:
        self.meta = None  # asked for nothing here
        self.put_item = self.query = self.batch_execute_statement = self._refuse
        self._message = message

    async def _refuse(self, **params: Any) -> Any:
        raise RuntimeError(self._message)


@pytest.mark.parametrize(
    "message",
    [
        "Task <Task pending> got Future <Future pending> attached to a different loop",
        "<asyncio.locks.Event object> is bound to a different event loop",
        "Event loop is closed",
        "Session is closed",
    ],
)
async def test_client_of_another_loop_is_named_at_the_first_call(message: str) -> None:
    client: Any = OfAnotherLoop(message)
    outbox = DynamoDBOutbox(client, table_name="events", conditional_writes="batch")
    with anyio.fail_after(retrying.MAX_DELAY):
        for call in (lambda: outbox.publish([Event("order.placed")]), lambda: outbox.claim(1), outbox.recover):
            with pytest.raises(ClientClosedError, match=r"client of this (event loop|outbox is closed)"):
                await call()
