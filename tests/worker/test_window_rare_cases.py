"""The window of a worker in rare cases: other workers of its outbox, its cancellation, lost replies, and threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.dynamodb.windows.activity import OPEN_AT, STRAGGLER_SPAN
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.observers import HandlerStarted
from reliability.simulation.responses import client_error
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import VirtualTime
from tests.worker.window_bus import LEASE, THIRD, emit, fail_upkeep, handled, of_kind, sleeping, unhindered, windows


@pytest.fixture
def service(virtual_time: VirtualTime) -> SimulatedService:
    return SimulatedService(virtual_time)


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def bus(service: SimulatedService, seen: list[Any], errors: list[Any]) -> OutboxEventBus:
    outbox = service.outbox(processing_timeout=LEASE, concurrency=200, observers=[seen.append], on_error=errors.append)
    return OutboxEventBus(outbox)


async def test_an_event_that_was_perhaps_moved_out_of_the_way_is_handled_by_one_worker_at_a_time(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    running, most = 0, 0

    @bus.on("order.checked", timeout=3_000)
    async def long(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(1_000)
        finally:
            running -= 1

    async def lose(operation: str, parameters: Parameters) -> None:
        if token in repr(parameters):
            raise client_error("InternalServerError", "an error of the test", operation=operation)

    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        straggler = await bus.emit("order.checked")
        assert "gsiSortKey" not in service.item(straggler.id)
        token = service.item(straggler.id)["claimToken"]["S"]
        service.after = lose
        for _ in range(STRAGGLER_SPAN + 1):
            Event("order.placed")
        for _ in range(30):
            await emit(bus, 5)
            await asyncio.sleep(THIRD / 5)
        assert service.item(straggler.id)["retryCount"] == {"N": "1"}
        service.after = unhindered
        await bus.stop(0)
    assert most == 1


async def test_the_start_of_a_window_never_moves_back(
    bus: OutboxEventBus, service: SimulatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        early, *others = [Event("order.placed") for _ in range(5)]
        await emit(bus, 20)
        await asyncio.sleep(THIRD)
        (window,) = windows(service)
        assert early.id_number is not None
        assert int(window["windowFrom"]["N"]) > early.id_number.number
        # A thread has made an id long ago, and is not until now at the point where it notes the number.
        monkeypatch.setattr(event_ids, "_next", early.id_number.number)
        service.before = fail_upkeep
        for other in others:
            await bus.emit(other)
        await asyncio.sleep(THIRD)
        await bus.emit(early)
        assert "gsiSortKey" in service.item(early.id)
        assert windows(service) == [window]
        service.before = unhindered


async def test_cancellations_by_other_code_do_not_end_the_upkeep_of_a_window(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    bus.on("order.checked", sleeping(3 * LEASE), timeout=600)
    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        event = await bus.emit("order.checked")
        assert "gsiSortKey" not in service.item(event.id)
        loops = [task for task in asyncio.all_tasks() if "WindowKeeper._repeat" in task.get_name()]
        assert len(loops) == 2
        for loop in loops:
            loop.cancel()
        await asyncio.sleep(4 * LEASE)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}
    assert sum(each.event_id == event.id for each in of_kind(seen, HandlerStarted)) == 1
    assert windows(service) == []


async def test_numbered_ids_are_inserted_after_a_restart_too(bus: OutboxEventBus, service: SimulatedService) -> None:
    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
    async with bus:
        service.calls.clear()
        await bus.emit_many([Event("order.placed"), Event("order.placed")])
    assert service.calls["batch_write_item"] == 0


async def test_a_window_goes_on_while_another_worker_of_the_outbox_runs(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any], errors: list[Any]
) -> None:
    other = OutboxEventBus(bus._outbox)
    bus.on("order.placed", handled)
    other.on("order.checked", sleeping(5 * LEASE), timeout=600)
    async with other:
        async with bus:
            await emit(bus, OPEN_AT)
            await asyncio.sleep(1)
            event = await other.emit("order.checked")
            assert "gsiSortKey" not in service.item(event.id)
        await asyncio.sleep(6 * LEASE)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}
    assert sum(each.event_id == event.id for each in of_kind(seen, HandlerStarted)) == 1
    assert windows(service) == []
    assert errors == []


async def test_what_a_cancelled_worker_left_in_its_window_is_recovered_by_the_next_worker_of_the_process(
    bus: OutboxEventBus, service: SimulatedService
) -> None:
    attempts = 0

    @bus.on("order.checked")
    async def slow_to_end(event: Event) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            try:
                await asyncio.sleep(20)
            finally:
                await asyncio.sleep(3)

    bus.on("order.placed", handled)
    await bus.start()
    await emit(bus, OPEN_AT)
    await asyncio.sleep(1)
    event = await bus.emit("order.checked")
    assert "gsiSortKey" not in service.item(event.id)
    (worker,) = [task for task in asyncio.all_tasks() if task.get_name() == "dynamodb-outbox worker"]
    for _ in range(2):
        worker.cancel()
        await asyncio.sleep(0.5)
    assert worker.done()
    await asyncio.sleep(5)
    assert service.item(event.id)["status"] == {"S": "PROCESSING"}
    async with bus:
        await asyncio.sleep(LEASE + 5)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}
        assert bus._outbox._parts.keeper._unanswered.windows == []
    assert attempts == 2
    assert windows(service) == []
