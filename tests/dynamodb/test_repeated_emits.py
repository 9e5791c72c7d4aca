"""Emits that are given up, repeated and held up: each event is stored once, and no emit waits for another's write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from dynamodb_outbox import DuplicateEventError, DynamoDBOutbox, Event, EventStatus, InvalidEventError, OutboxEventBus
from reliability.proxy import Proxy, Recorded, refused
from reliability.simulation.client import Client
from reliability.simulation.responses import THROTTLED, Refusal
from tests.backends import open_plain_client
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import install


class Handled(Counter[str]):
    """Counts the calls of a handler by event id."""

    async def __call__(self, event: Event) -> None:
        self[event.id] += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


# On DynamoDB Local


async def test_batch_is_not_repeated_by_a_client_that_retries(proxy: Proxy, local_client: Any, table_name: str) -> None:
    def rule(request: Recorded) -> Any:
        return applied_then_failed(request) if request.operation == "BatchWriteItem" else None

    async def applied_then_failed(request: Recorded) -> Any:
        await local_client.batch_write_item(**request.body)
        await asyncio.sleep(1)
        return refused("InternalServerError", "try again", status=500)

    async with open_plain_client(proxy.endpoint) as client:
        outbox = DynamoDBOutbox(client, table_name=table_name, claim_on_emit=False, poll_interval=0.05)
        await outbox.create_table()
        bus, handled = OutboxEventBus(outbox), Handled()
        bus.on("order.placed", handled)
        async with bus:
            # The worker's first conditional write has been made when the batch is sent.
            await bus.emit("order.placed")
            await until(lambda: len(handled) == 1)
            proxy.rule = rule
            events = await asyncio.gather(*(bus.emit("order.placed") for _ in range(20)))
            await bus.drain(timeout=60)
    assert {handled[event.id] for event in events} == {1}
    sent = Counter(put["PutRequest"]["Item"]["id"]["S"] for put in puts_of(proxy))
    assert set(sent.values()) == {1}


def puts_of(proxy: Proxy) -> list[dict[str, Any]]:
    return [put for body in proxy.of("BatchWriteItem") for puts in body["RequestItems"].values() for put in puts]


@pytest.mark.thorough
@pytest.mark.parametrize("claim_on_emit", [False, True])
async def test_list_that_is_given_up_and_repeated_is_handled_once(
    proxy: Proxy, client: Any, table_name: str, *, claim_on_emit: bool
) -> None:
    outbox = DynamoDBOutbox(client, table_name=table_name, claim_on_emit=claim_on_emit, poll_interval=0.05)
    await outbox.create_table()
    bus, handled = OutboxEventBus(outbox), Handled()
    bus.on("order.placed", handled)

    async def late(request: Recorded) -> None:
        await asyncio.sleep(1)

    proxy.rule = lambda request: late(request) if request.operation == "BatchWriteItem" else None
    events = [Event("order.placed", {"n": n}) for n in range(400)]
    async with bus:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.emit_many(events), 0.5)
        stored = await bus.emit_many(events, if_exists="ignore")
        await bus.drain(timeout=100)
    assert [event.id for event in stored] == [event.id for event in events]
    assert handled == {event.id: 1 for event in events}


async def test_two_tasks_that_emit_one_event_store_it_once(outbox: DynamoDBOutbox, proxy: Proxy) -> None:
    bus = OutboxEventBus(outbox)
    events = [Event("order.placed", {"n": n}) for n in range(5)]
    results = await asyncio.gather(*(bus.emit(event) for event in [*events, *events]), return_exceptions=True)
    by_id = Counter(result.event_id for result in results if isinstance(result, DuplicateEventError))
    assert by_id == {event.id: 1 for event in events}
    assert sum(isinstance(result, Event) for result in results) == 5
    assert await outbox.count(EventStatus.PENDING) == 5


# In virtual time

Rule = Callable[[str, Parameters], Awaitable[None]]


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> SimulatedService:
    return SimulatedService(install(asyncio.get_running_loop(), monkeypatch))


def delaying(operation: str, seconds: float, *, first: int = 10**6) -> Rule:
    """Have the first requests of an operation take so many seconds to arrive."""
    left = first

    async def rule(called: str, parameters: Parameters) -> None:
        nonlocal left
        if called == operation and left:
            left -= 1
            await asyncio.sleep(seconds)

    return rule


async def timed(work: Awaitable[object]) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await work
    return loop.time() - started


@pytest.mark.parametrize("claim_on_emit", [False, True])
async def test_repeat_waits_for_the_batch_that_its_caller_gave_up(
    service: SimulatedService, *, claim_on_emit: bool
) -> None:
    async def send(operation: str, parameters: Parameters) -> Any:
        # What was sent arrives, though nobody waits for the answer any more.
        return await asyncio.shield(service.send(operation, parameters))

    service.client = Client(send)
    service.before = delaying("batch_write_item", 3.0)
    outbox = service.outbox(claim_on_emit=claim_on_emit, poll_interval=0.05)
    bus, handled = OutboxEventBus(outbox), Handled()
    bus.on("order.placed", handled)
    events = [Event("order.placed") for _ in range(30)]
    async with bus:
        for patience in (0.5, 0.1):
            with suppress(TimeoutError):
                await asyncio.wait_for(bus.emit_many(events), patience)
        stored = await bus.emit_many(events, if_exists="ignore")
        # However early the events are handled, the batch has arrived by then.
        await asyncio.sleep(4)
        await bus.drain(timeout=60)
    assert len(stored) == 30
    assert handled == {event.id: 1 for event in events}


async def test_emit_that_is_given_up_in_the_queue_is_not_sent(service: SimulatedService) -> None:
    service.before = delaying("put_item", 0.02)
    bus = OutboxEventBus(service.outbox())
    first = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0.001)
    given_up = [asyncio.create_task(bus.emit("order.placed")) for _ in range(3)]
    kept = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0.001)
    for task in given_up:
        task.cancel()
    await asyncio.wait([first, kept, *given_up])
    assert len(service.backend.tables["events"].items) == 2
    assert service.calls["batch_write_item"] == 0


async def test_no_emit_waits_long_for_one_that_is_slow(service: SimulatedService) -> None:
    service.before = delaying("put_item", 4.0, first=1)
    bus = OutboxEventBus(service.outbox())
    slow = asyncio.create_task(timed(bus.emit("order.placed")))
    await asyncio.sleep(0.001)
    times = await asyncio.gather(*(timed(bus.emit("order.placed")) for _ in range(10)))
    assert max(times) < 0.05
    # Next to a write that has been slow for long, an emit does not wait at all.
    assert await timed(bus.emit("order.placed")) < 0.01
    assert await slow > 4


async def test_conditional_puts_and_repeats_hold_up_no_emit(service: SimulatedService) -> None:
    service.before = delaying("put_item", 4.0, first=20)
    bus = OutboxEventBus(service.outbox())
    slow = [asyncio.create_task(bus.emit("order.placed", id=f"e{n}")) for n in range(20)]
    await asyncio.sleep(0.001)
    assert await timed(bus.emit("order.placed")) < 0.01
    lists = [bus.emit_many([Event("order.placed", id=f"l{n}-{m}") for m in range(3)]) for n in range(10)]
    assert await timed(asyncio.gather(*lists)) < 0.02
    await asyncio.gather(*slow)


async def test_each_caller_returns_when_its_own_event_is_stored(service: SimulatedService) -> None:
    bus = OutboxEventBus(service.outbox())
    refusing: set[str] = set()

    class Gate:
        def admit(self, change: Any, **_: Any) -> Any:
            return Refusal(THROTTLED, "slow down") if change.key in refusing else None

    service.limit(Gate())
    service.before = delaying("put_item", 0.02, first=1)
    first = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0.001)
    unlucky = Event("order.placed")
    refusing.add(unlucky.id)
    waiting = asyncio.create_task(timed(bus.emit(unlucky)))
    times = await asyncio.gather(*(timed(bus.emit("order.placed")) for _ in range(5)))
    assert max(times) < 0.1
    await asyncio.sleep(2)
    assert not waiting.done()
    refusing.clear()
    assert await waiting > 2
    await first


async def test_transaction_waits_for_the_batch_that_has_its_event(service: SimulatedService) -> None:
    service.before = delaying("batch_write_item", 3.0)
    outbox = service.outbox()
    bus = OutboxEventBus(outbox)
    events = [Event("order.placed"), Event("order.placed")]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.emit_many(events), 0.5)
    with pytest.raises(InvalidEventError, match="await that emit"):
        outbox.transact_items(events)
    with pytest.raises(DuplicateEventError) as caught:
        async with bus.transaction() as transaction:
            transaction.emit(events[0])
    assert caught.value.stored == events[0]


async def test_transaction_is_not_taken_for_committed_because_another_emit_stored_its_event(
    service: SimulatedService,
) -> None:
    bus = OutboxEventBus(service.outbox())
    event = Event("order.placed", id="order-1")
    await bus.emit(event)
    failing = True

    async def lose_the_first_reply(operation: str, parameters: Parameters) -> None:
        nonlocal failing
        if operation == "transact_write_items" and failing:
            failing = False
            raise ConnectionResetError("lost")

    service.before = lose_the_first_reply
    with pytest.raises(DuplicateEventError):
        async with bus.transaction() as transaction:
            transaction.put(TableName="events", Item={"id": "mine"})
            transaction.emit(event)
    assert "mine" not in service.backend.tables["events"].items
