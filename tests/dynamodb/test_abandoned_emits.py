"""Emits that are given up, of copies, and through several outboxes: what was not sent is not sent, one id is one event.

All of it in virtual time, on a table that carries out what was sent, though nobody waits for the answer.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from dynamodb_outbox import Event, InvalidEventError, OutboxEventBus
from dynamodb_outbox.dynamodb.emitting.in_flight import TableInFlight
from dynamodb_outbox.middleware import CallNext
from reliability.simulation.client import Client
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import install


class Handled(Counter[str]):
    """Counts the calls of a handler by event id."""

    async def __call__(self, event: Event) -> None:
        self[event.id] += 1


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> SimulatedService:
    service = SimulatedService(install(asyncio.get_running_loop(), monkeypatch))

    async def send(operation: str, parameters: Parameters) -> Any:
        return await asyncio.shield(service.send(operation, parameters))

    service.client = Client(send)
    return service


@pytest.fixture
def handled() -> Handled:
    return Handled()


@pytest.fixture
def bus(service: SimulatedService, handled: Handled) -> OutboxEventBus:
    bus = OutboxEventBus(service.outbox(poll_interval=0.05))
    bus.on("order.placed", handled)
    return bus


def delaying(operation: str, seconds: float, *, event_id: str | None = None) -> Callable[..., Awaitable[None]]:
    """Have requests of an operation take so many seconds to arrive, those of one event only if it is given."""

    async def rule(called: str, parameters: Parameters) -> None:
        if called == operation and (event_id is None or parameters["Item"]["id"]["S"] == event_id):
            await asyncio.sleep(seconds)

    return rule


async def give_up_after(seconds: float, emit: Awaitable[object]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(emit, seconds)


async def timed(work: Awaitable[object]) -> float:
    started = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - started


COPIES: dict[str, Callable[[Event], Event]] = {
    "replaced": lambda event: dataclasses.replace(event, metadata={"a": 1}),
    "copied": copy.copy,
    "pickled": lambda event: pickle.loads(pickle.dumps(event)),  # noqa: S301 - our own bytes
    "by id": lambda event: Event(event.type, event.payload, id=event.id),
}


@pytest.mark.parametrize("how", COPIES)
async def test_event_whose_copy_was_handled_is_not_set_back(bus: OutboxEventBus, handled: Handled, how: str) -> None:
    event = Event("order.placed", {"n": 1})
    async with bus:
        await bus.emit(COPIES[how](event))
        await bus.drain(timeout=10)
        stored, _ = await bus.emit_many([event, Event("order.placed")], if_exists="ignore")
        await bus.drain(timeout=10)
    assert (handled[event.id], stored.already_stored) == (1, True)


async def test_list_that_waits_for_one_event_sets_no_other_back(
    service: SimulatedService, bus: OutboxEventBus, handled: Handled
) -> None:
    slow, other, third = Event("order.placed", id="slow"), Event("order.placed"), Event("order.placed")
    service.before = delaying("put_item", 1.0, event_id="slow")
    async with bus:
        first = asyncio.create_task(bus.emit(slow))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(bus.emit_many([slow, other, third], if_exists="ignore"))
        await asyncio.sleep(0.01)
        await bus.emit(other)
        await asyncio.gather(first, waiting)
        await bus.drain(timeout=10)
    assert handled == {event.id: 1 for event in (slow, other, third)}


async def test_middleware_that_replaces_an_event_has_it_stored_once(bus: OutboxEventBus, handled: Handled) -> None:
    async def stamp(event: Event, call_next: CallNext) -> None:
        await asyncio.sleep(1 if event.payload == "slow" else 0)
        await call_next(dataclasses.replace(event, metadata={"tenant": "acme"}))

    bus.add_emit_middleware(stamp)
    event, slow = Event("order.placed"), Event("order.placed", "slow")
    async with bus:
        both = asyncio.create_task(bus.emit_many([event, slow], if_exists="ignore"))
        await asyncio.sleep(0.05)
        await bus.emit(event)
        await both
        await bus.drain(timeout=10)
    assert handled == {event.id: 1, slow.id: 1}


async def test_repeat_through_another_outbox_waits_for_the_batch(
    service: SimulatedService, bus: OutboxEventBus, handled: Handled
) -> None:
    other = OutboxEventBus(service.outbox())
    service.before = delaying("batch_write_item", 3.0)
    events = [Event("order.placed"), Event("order.placed")]
    async with bus:
        await give_up_after(0.5, other.emit_many(events))
        await bus.emit_many(events, if_exists="ignore")
        await asyncio.sleep(5)
        await bus.drain(timeout=60)
    assert handled == {event.id: 1 for event in events}


async def test_emit_that_is_given_up_before_it_is_sent_is_not_sent_by_a_worker_either(
    service: SimulatedService, bus: OutboxEventBus, handled: Handled
) -> None:
    async with bus:
        service.before = delaying("put_item", 0.02)
        first = asyncio.create_task(bus.emit("order.placed"))
        await asyncio.sleep(0.001)
        given_up = [asyncio.create_task(bus.emit("order.placed")) for _ in range(3)]
        await asyncio.sleep(0.001)
        for task in given_up:
            task.cancel()
        await asyncio.wait([first, *given_up])
        await bus.drain(timeout=5)
    assert handled.total() == 1


async def test_repeats_that_are_given_up_leave_nothing_behind(
    service: SimulatedService, bus: OutboxEventBus, handled: Handled
) -> None:
    event = Event("order.placed", id="order-1")
    async with bus:
        service.before = delaying("put_item", 4.0)
        for _ in range(30):
            await give_up_after(0.1, bus.emit(event, if_exists="ignore"))
        await asyncio.sleep(0.01)  # the last of them ends
        assert bus._lifecycle.worker is not None
        assert bus._lifecycle.worker._slots.taken <= 1
        assert service.calls["put_item"] == 1
        service.before = delaying("none", 0.0)
        await bus.emit(event, if_exists="ignore")
        await bus.drain(timeout=60)
    assert (handled[event.id], service.calls["put_item"]) == (1, 2)


@pytest.mark.parametrize("transaction", [False, True])
async def test_stop_waits_for_one_write_of_a_repeated_event_only(
    service: SimulatedService, bus: OutboxEventBus, *, transaction: bool
) -> None:
    async def emit(event: Event) -> None:
        if transaction:
            async with bus.transaction() as tx:
                tx.emit(event)
        else:
            await bus.emit(event, if_exists="ignore")

    event = Event("order.placed", id="order-1")
    await bus.start()
    service.before = delaying("transact_write_items" if transaction else "put_item", 1000.0)
    for _ in range(8):
        await give_up_after(0.5, emit(event))
    assert await timed(bus.stop()) < 11


async def test_id_is_free_soon_after_its_emit_was_given_up(service: SimulatedService) -> None:
    bus = OutboxEventBus(service.outbox())
    event = Event("order.placed")
    service.before = delaying("put_item", 1000.0, event_id=event.id)
    first = asyncio.create_task(bus.emit("order.placed"))
    await asyncio.sleep(0.001)
    await give_up_after(1, bus.emit(event))
    service.before = delaying("none", 0.0)
    assert await timed(bus.emit(event)) < 0.1
    await first


async def test_ids_are_shared_by_the_outboxes_of_a_table_and_kept_for_none() -> None:
    one, other, elsewhere = TableInFlight("events"), TableInFlight("events"), TableInFlight("others")
    assert one.of_running_loop() is other.of_running_loop()
    assert one.of_running_loop() is not elsewhere.of_running_loop()
    assert one.of_running_loop().try_enter(["a", "b"])
    assert other.among(["a", "c"]) == ["a"]
    assert not other.of_running_loop().try_enter(["c", "a"])
    one.of_running_loop().leave("a")
    assert other.of_running_loop().try_enter(["c", "a"])


async def test_transact_items_of_an_event_in_flight_is_refused_in_any_thread(service: SimulatedService) -> None:
    outbox = service.outbox()
    service.before = delaying("batch_write_item", 3.0)
    event = Event("order.placed")
    await give_up_after(0.1, OutboxEventBus(outbox).emit_many([event, Event("order.placed")]))
    refused: list[Exception] = []

    def in_a_thread() -> None:
        try:
            outbox.transact_items([event])
        except InvalidEventError as error:
            refused.append(error)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert len(refused) == 1
    await asyncio.sleep(10)
    assert outbox.transact_items([event])


async def test_claim_that_arrives_after_a_stop_is_released_though_its_caller_gives_up(
    service: SimulatedService, bus: OutboxEventBus
) -> None:
    releases = 0

    async def answer_late(operation: str, parameters: Parameters) -> None:
        if operation == "put_item":
            await asyncio.sleep(4)

    async def fail_once(operation: str, parameters: Parameters) -> None:
        nonlocal releases
        if stopped and operation in ("batch_execute_statement", "update_item"):
            releases += 1
            if releases == 1:
                giving_up.set()
                raise ConnectionResetError("once")

    stopped, giving_up = False, asyncio.Event()
    await bus.start()
    await asyncio.sleep(0.2)
    service.after, service.before = answer_late, fail_once
    event = Event("order.placed")
    emit = asyncio.create_task(bus.emit(event))
    await asyncio.sleep(0.1)
    await bus.stop(timeout=0)
    stopped = True
    await giving_up.wait()
    emit.cancel()
    await asyncio.wait([emit])
    await asyncio.sleep(5)
    assert service.item(event.id)["status"] == {"S": "PENDING"}


async def test_list_that_is_given_up_before_it_is_known_how_to_send_it_is_not_sent(service: SimulatedService) -> None:
    """The first list of events with keys waits for the answer to a probe of PartiQL statements."""
    bus = OutboxEventBus(service.outbox(conditional_writes="auto"))
    service.before = delaying("batch_execute_statement", 2.0)
    events = [Event("order.placed", ordering_key="order-17") for _ in range(3)]
    await give_up_after(1.0, bus.emit_many(events))
    await asyncio.sleep(20)
    assert not service.backend.tables["events"].items
    await bus.emit_many(events)
    assert {event.id for event in events} <= service.backend.tables["events"].items.keys()
