"""Calls from other event loops and threads: each is refused before anything is sent, and disturbs no worker."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from dynamodb_outbox import (
    ClientClosedError,
    Delivery,
    DynamoDBOutbox,
    Event,
    EventStatus,
    InMemoryOutbox,
    OutboxEventBus,
    UsageError,
)
from dynamodb_outbox.adapter import Completed
from tests.backends import SESSION
from tests.reliability.outboxes import connected, plain
from tests.reliability.proxy_rules import Runs, eventually

PENDING = EventStatus.PENDING
Call = Callable[[Any], Awaitable[Any]]


async def elsewhere(call: Callable[[], Any]) -> Any:
    """Await a call in the event loop of another thread, while this one goes on."""

    async def awaited() -> Any:
        with anyio.fail_after(10):  # there, as nothing ends a thread from outside
            return await call()

    return await asyncio.to_thread(lambda: asyncio.run(awaited()))


@pytest.fixture(params=["memory", "plain", "connected"])
async def outbox(request: pytest.FixtureRequest, table_name: str) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield InMemoryOutbox(poll_interval=0.05)
        return
    make = plain if request.param == "plain" else connected
    async with make(request.getfixturevalue("local_endpoint"), table_name) as outbox:
        await outbox.create_table()
        yield outbox


async def commit(bus: OutboxEventBus) -> None:
    async with bus.transaction() as tx:
        tx.emit("foreign", id="committed")


CALLS: dict[str, Call] = {
    "emit": lambda bus: bus.emit("foreign", id="emitted"),
    "emit an id made here": lambda bus: bus.emit("foreign"),
    "emit_many": lambda bus: bus.emit_many([Event("foreign") for _ in range(30)]),
    "transaction": commit,
    "retry_events": lambda bus: bus.retry_events(["dead"]),
    "get_failed_events": lambda bus: bus.get_failed_events(),
    "start": lambda bus: bus.start(),
    "stop": lambda bus: bus.stop(0),
    "drain": lambda bus: bus.drain(5),
    "wait_for": lambda bus: bus.wait_for("order.placed", timeout=5),
    "run_once": lambda bus: bus.run_once(),
}


@pytest.mark.parametrize("worker", [True, False])
async def test_call_of_a_bus_from_another_loop_is_refused_and_changes_nothing(outbox: Any, worker: bool) -> None:
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    bus.on("foreign", foreign := Runs())

    @bus.on("dies", max_retries=0)
    async def fail(event: Event) -> None:
        raise ValueError

    await bus.emit("dies", id="dead")
    await eventually_failed(bus)
    if worker:
        await bus.start()
    for name, call in CALLS.items():
        handed = "your_function_with_the_block" if name == "transaction" else f"bus.{name.partition(' ')[0]}"
        assert await refusal(partial(call, bus)) == (UsageError, handed), name
        assert bus.running is worker, name
    assert [event.id for event in await bus.get_failed_events()] == ["dead"]
    assert await outbox.count(PENDING) == 0
    if not worker:
        await bus.start()
    await bus.emit("order.placed", id="after")
    await bus.drain(20)
    await bus.stop()
    assert (runs.ids, foreign.ids) == (["after"], [])


async def refusal(call: Callable[[], Any]) -> tuple[type[BaseException], str] | None:
    """What a call in another loop raises, and the call that it says to hand to the loop of the bus."""
    try:
        await elsewhere(call)
    except Exception as error:
        said = re.search(r"run_coroutine_threadsafe\(([\w.]+)\((?:\.\.\.)?\), loop\)\.result\(\)", str(error))
        return (type(error), said[1]) if said is not None else None
    return None


async def eventually_failed(bus: OutboxEventBus) -> None:
    with anyio.fail_after(20):
        while not await bus.get_failed_events():
            await bus.run_once()


OUTBOX_CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "publish": lambda outbox, claim: outbox.publish([Event("order.placed", id="foreign")]),
    "publish many": lambda outbox, claim: outbox.publish([Event("order.placed") for _ in range(30)]),
    "transact": lambda outbox, claim: outbox.transact([], [(Event("order.placed", id="foreign"), None)]),
    "claim": lambda outbox, claim: outbox.claim(10),
    "settle": lambda outbox, claim: outbox.settle([(claim, Completed())]),
    "renew": lambda outbox, claim: outbox.renew([(claim, claim.lease_expires_at + 60)]),
    "recover": lambda outbox, claim: outbox.recover(),
    "count": lambda outbox, claim: outbox.count(PENDING),
    "failed_events": lambda outbox, claim: outbox.failed_events(type=None, limit=10),
    "redrive": lambda outbox, claim: outbox.redrive(["e"]),
    "prepare": lambda outbox, claim: outbox.prepare(),
    "retire": lambda outbox, claim: outbox.retire(),
}


async def test_call_of_an_outbox_from_another_loop_is_refused_and_changes_nothing(outbox: Any) -> None:
    await outbox.publish([Event("order.placed", id="e")])
    (claim,) = await outbox.claim(1)
    await outbox.publish([Event("order.placed", id="due")])
    for name, call in OUTBOX_CALLS.items():
        handed = f"outbox.{name.partition(' ')[0]}"
        assert await refusal(partial(call, outbox, claim)) == (UsageError, handed), name
    assert [await outbox.count(status) for status in (PENDING, EventStatus.PROCESSING)] == [1, 1]
    assert await outbox.settle([(claim, Completed())]) == [None]
    with pytest.raises(UsageError, match="Make an outbox and its bus in this loop"):
        await elsewhere(lambda: OutboxEventBus(outbox).emit("order.placed"))


@pytest.mark.parametrize("call", ["create_table", "verify_table"])
async def test_table_is_neither_made_nor_checked_from_another_loop(
    local_client: Any, table_name: str, call: str
) -> None:
    outbox = DynamoDBOutbox(local_client, table_name=table_name)
    await outbox.create_table()
    with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
        await elsewhere(getattr(outbox, call))


async def test_thread_emits_as_the_error_says(outbox: Any) -> None:
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    async with bus:
        loop = asyncio.get_running_loop()

        def emit() -> Event:
            return asyncio.run_coroutine_threadsafe(bus.emit("order.placed", {"n": 1}), loop).result(20)

        event = await asyncio.to_thread(emit)
        await bus.drain(20)
    assert runs.ids == [event.id]


async def test_another_running_loop_awaits_an_emit_of_this_one(outbox: Any) -> None:
    bus = OutboxEventBus(outbox)
    loop = asyncio.get_running_loop()

    async def emit() -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(bus.emit("order.placed", id="e"), loop))

    assert (await elsewhere(emit)).id == "e"
    assert await outbox.count(PENDING) == 1


async def test_handler_that_uses_its_delivery_in_another_loop_has_failed(outbox: Any) -> None:
    errors: list[Any] = []
    bus = OutboxEventBus(outbox, on_error=errors.append)
    bus.on("child", children := Runs())

    @bus.on("order.placed", max_retries=0)
    async def handler(event: Event, delivery: Delivery) -> None:
        async def commit() -> None:
            async with delivery.transaction() as tx:
                tx.emit("child")

        for call in (lambda: delivery.emit("child"), commit, lambda: delivery.extend(60)):
            with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
                await elsewhere(call)
        await elsewhere(lambda: bus.emit("child"))

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(20)
    assert [type(error.__cause__) for error in errors] == [UsageError]
    assert children.ids == []


async def test_notify_wakes_the_worker_from_any_thread() -> None:
    outbox = InMemoryOutbox(poll_interval=60)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())
    async with bus:
        await anyio.sleep(0.05)  # the first look is over
        await outbox.publish([Event("order.placed", id="e")])
        await asyncio.to_thread(bus.notify)
        await eventually(lambda: runs.ids == ["e"])


def test_bus_in_memory_is_used_in_one_loop_after_the_other() -> None:
    outbox = InMemoryOutbox(poll_interval=0.01)
    bus = OutboxEventBus(outbox)
    bus.on("order.placed", runs := Runs())

    async def use(event_id: str, *, stops: bool) -> None:
        await bus.start()
        await bus.emit("order.placed", id=event_id)
        await bus.drain(5)
        if stops:
            await bus.stop()

    for n, stops in enumerate([True, False, False, True]):
        asyncio.run(use(f"e{n}", stops=stops))
    assert runs.ids == ["e0", "e1", "e2", "e3"]
    assert not bus.running


def test_client_of_a_loop_that_is_closed_is_named_before_anything_is_sent(local_endpoint: str, table_name: str) -> None:
    async def first() -> tuple[OutboxEventBus, Any]:
        made = SESSION.create_client("dynamodb", region_name="us-east-1", endpoint_url=local_endpoint)
        client = await made.__aenter__()
        outbox = DynamoDBOutbox(client, table_name=table_name)
        await outbox.create_table()
        bus = OutboxEventBus(outbox)
        await bus.emit("order.placed", id="first")
        # The client is left open. Its connections are closed here, so that the test leaves none.
        for pool in client._endpoint.http_session._sessions.values():
            await pool.close()
        return bus, client

    async def second(bus: OutboxEventBus, client: Any) -> None:
        # Another outbox has not seen the first loop, and sees it in the client.
        other = DynamoDBOutbox(client, table_name=table_name)
        for call in (
            lambda: bus.emit("order.placed"),
            lambda: bus.emit_many([Event("order.placed"), Event("order.placed")]),
            lambda: other.publish([Event("order.placed")]),
            lambda: other.publish([Event("order.placed"), Event("order.placed")]),
        ):
            with pytest.raises(ClientClosedError, match=r"used in is closed|belongs to another event loop") as caught:
                await call()
            assert caught.value.maybe_applied is False

    asyncio.run(second(*asyncio.run(first())))


async def test_client_that_another_loop_uses_is_named_before_anything_is_sent(
    local_client: Any, table_name: str
) -> None:
    mine = DynamoDBOutbox(local_client, table_name=table_name)
    await mine.create_table()

    async def emit() -> None:
        await OutboxEventBus(DynamoDBOutbox(local_client, table_name=table_name)).emit("order.placed", id="e")

    with pytest.raises(ClientClosedError, match="another event loop") as caught:
        await elsewhere(emit)
    assert caught.value.maybe_applied is False
    assert await mine.count(PENDING) == 0


def test_bus_is_called_through_the_portal_that_a_synchronous_test_client_has() -> None:
    bus = OutboxEventBus(InMemoryOutbox(poll_interval=0.01))
    bus.on("order.placed", runs := Runs())
    for n in range(2):  # each portal has a loop, in a thread
        with start_blocking_portal() as portal:
            portal.call(bus.start)
            with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
                asyncio.run(bus.emit("order.placed", id=f"refused{n}"))
            portal.call(partial(bus.emit, "order.placed", id=f"e{n}"))
            portal.call(bus.drain, 5)
            portal.call(bus.stop)
    assert runs.ids == ["e0", "e1"]
