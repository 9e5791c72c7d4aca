"""Clients that were closed before their first call, or while a block is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from dynamodb_outbox import ClientClosedError, DynamoDBOutbox, Event, EventStatus, OutboxEventBus
from tests.backends import open_client
from tests.reliability.outboxes import connected, plain

PENDING = EventStatus.PENDING


# A client that was closed before it was used


@pytest.mark.parametrize("starts", [True, False])
async def test_client_that_was_closed_before_its_first_call_is_not_opened_again(
    local_endpoint: str, table_name: str, starts: bool
) -> None:
    async with plain(local_endpoint, table_name) as outbox:
        await outbox.create_table()
    async with open_client(local_endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name, poll_interval=60)
        bus = OutboxEventBus(outbox, on_error=lambda error: None)
        if starts:
            await bus.start()
    calls = (
        lambda: bus.emit("order.placed"),
        lambda: bus.emit_many([Event("order.placed"), Event("order.placed")]),
        bus.get_failed_events,
    )
    for call in calls:
        with pytest.raises(
            ClientClosedError, match=r"client of this outbox is closed \(table '.*'\); keep its `async with` block open"
        ) as caught:
            await call()
        assert caught.value.closed
        assert caught.value.maybe_applied is False
    await bus.stop()
    with pytest.raises(ClientClosedError, match="is closed"):
        await bus.start()
    assert not bus.running
    # Nor by an outbox that is made afterwards.
    with pytest.raises(ClientClosedError, match="client of this outbox is closed"):
        await DynamoDBOutbox(client, table_name=table_name).publish([Event("order.placed")])
    assert not client._endpoint.http_session._sessions


# A block that is cancelled while it ends: the client is closed after the worker


@pytest.mark.parametrize(
    ("make", "place", "cancels"), [(connected, 2, 3), *((plain, place, 1 + 2 * (place % 2)) for place in range(1, 6))]
)
async def test_client_is_closed_after_the_worker_though_the_block_is_cancelled(
    local_endpoint: str, table_name: str, make: Any, place: int, cancels: int
) -> None:
    before = asyncio.all_tasks()
    errors: list[Any] = []
    answered: list[str] = []
    began = anyio.Event()
    seen = 0
    ending = False

    async def step(operation: str) -> None:
        nonlocal seen
        seen += ending
        if seen == place:
            for n in range(cancels):
                asyncio.get_running_loop().call_later(0.01 * n, host.cancel)
            await asyncio.sleep(0.01)

    class Stepping:
        """A client that tells before a request is sent, and before its reply is passed on."""

        def __init__(self, client: Any) -> None:
            self.meta = client.meta
            self._client = client

        def __getattr__(self, operation: str) -> Any:
            async def call(**params: Any) -> Any:
                await step(operation)
                reply = await getattr(self._client, operation)(**params)
                await step(operation)
                answered.append(operation)
                return reply

            return call

    async def run() -> None:
        nonlocal ending
        async with make(local_endpoint, table_name) as outbox:
            await outbox.create_table()
            stepping: Any = Stepping(outbox._client)
            bus = OutboxEventBus(
                DynamoDBOutbox(stepping, table_name=table_name, poll_interval=0.02, on_error=errors.append)
            )

            @bus.on("order.placed")
            async def handler(event: Event) -> None:
                began.set()
                await anyio.sleep(0.2)

            async with bus:
                await bus.emit("order.placed", id="e")
                await began.wait()
                ending = True
            assert asyncio.all_tasks() == {*before, host}

    host = asyncio.create_task(run())
    await asyncio.wait([host], timeout=60)
    if not host.cancelled():
        host.result()
    assert host.cancelled() or seen < place
    assert asyncio.all_tasks() == before
    count = len(answered)
    async with open_client(local_endpoint) as client:
        reply = await client.get_item(TableName=table_name, Key={"id": {"S": "e"}}, ConsistentRead=True)
    assert reply["Item"]["status"]["S"] in ("PENDING", "COMPLETED")
    assert (len(answered), errors) == (count, [])
