"""The window of a worker over time: it opens for many emits, moves on with them, and ends with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dynamodb_outbox import Event, OutboxEventBus, PollingError, WindowLostError
from dynamodb_outbox.dynamodb.windows.activity import LEAST_AHEAD, LONGEST_SPAN, OPEN_AT, STRAGGLER_SPAN
from dynamodb_outbox.dynamodb.windows.item import WINDOW_IDS
from dynamodb_outbox.event_ids import event_ids
from dynamodb_outbox.observers import (
    EventCompleted,
    HandlerCancelled,
    HandlerFailed,
    HandlerStarted,
    WindowLost,
    WindowOpened,
)
from reliability.simulation.responses import client_error
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import VirtualTime
from tests.worker.window_bus import (
    LEASE,
    THIRD,
    emit,
    fail_queries,
    fail_upkeep,
    handled,
    of_kind,
    outage,
    sleeping,
    unhindered,
    windows,
)


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


async def test_a_window_opens_for_ten_emits_and_ends_after_a_third_of_a_lease_without(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT - 1)
        await asyncio.sleep(1)
        assert windows(service) == []
        await emit(bus, 1)
        await asyncio.sleep(1)
        (window,) = windows(service)
        assert int(window["windowTo"]["N"]) - int(window["windowFrom"]["N"]) == LEAST_AHEAD
        event = await bus.emit("order.placed")
        assert "gsiSortKey" not in service.item(event.id)
        assert service.item(event.id)["window"]["S"] == window["id"]["S"].rpartition("/")[2]
        await asyncio.sleep(THIRD)
        assert windows(service) == []
    assert len(of_kind(seen, WindowOpened)) == 1
    assert of_kind(seen, WindowLost) == []


async def test_nine_emits_a_third_of_a_lease_open_no_window(bus: OutboxEventBus, service: SimulatedService) -> None:
    bus.on("order.placed", handled)
    async with bus:
        for _ in range(6):
            await emit(bus, OPEN_AT - 1)
            await asyncio.sleep(THIRD)
    assert not any(key.startswith(WINDOW_IDS) for key in service.backend.tables["events"].items)


async def test_an_idle_worker_with_long_handlers_renews_them_with_one_write_each_third_of_a_lease(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    @bus.on("order.placed", timeout=600)
    async def long(event: Event) -> None:
        await asyncio.sleep(300)

    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        await emit(bus, 50)
        listed = sum("gsiSortKey" in item for item in service.backend.tables["events"].items.values() if "type" in item)
        service.calls.clear()
        await asyncio.sleep(280)
        # The events before the window have own leases: their worker renews them together.
        renewals = service.calls["update_item"]
        assert 20 <= renewals <= 32
        await asyncio.sleep(60)
    assert len(of_kind(seen, EventCompleted)) == OPEN_AT + 50
    assert listed < 15
    assert max(Counter(each.event_id for each in of_kind(seen, HandlerStarted)).values()) == 1


async def test_a_burst_that_outruns_the_window_is_stored_in_the_index_and_loses_nothing(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        for _ in range(30):
            await bus.emit_many([Event("order.placed") for _ in range(100)])
        await bus.drain(60)
    assert len(of_kind(seen, EventCompleted)) == OPEN_AT + 3_000
    assert windows(service) == []


@pytest.mark.thorough
async def test_an_event_that_runs_for_long_is_moved_out_of_the_way(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    go_on = asyncio.Event()

    @bus.on("order.checked", timeout=3_000)
    async def long(event: Event) -> None:
        await go_on.wait()

    bus.on("order.placed", handled)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        straggler = await bus.emit("order.checked")
        assert "gsiSortKey" not in service.item(straggler.id)
        for _ in range(60):
            await emit(bus, 10)
            for _ in range(90):
                Event("order.placed")  # made, and so numbered, but never emitted
            await asyncio.sleep(3)
        assert event_ids.next_number > LONGEST_SPAN
        assert "gsiSortKey" in service.item(straggler.id)
        (window,) = windows(service)
        assert int(window["windowFrom"]["N"]) > event_ids.next_number - STRAGGLER_SPAN
        await asyncio.sleep(10 * LEASE)  # its worker renews it
        go_on.set()
        await asyncio.sleep(1)
        assert service.item(straggler.id)["status"] == {"S": "COMPLETED"}
    assert of_kind(seen, HandlerCancelled) == []


async def test_a_window_that_somebody_took_is_lost_and_its_events_come_back_once(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any], errors: list[Any]
) -> None:
    bus.on("order.placed", sleeping(5), timeout=60)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        events = [await bus.emit("order.placed") for _ in range(5)]
        (window,) = windows(service)
        window["claimToken"] = {"S": "somebody else"}
        await asyncio.sleep(0.1)
        seed = event_ids.seed
        await asyncio.sleep(2 * LEASE)
        assert event_ids.seed != seed
        for event in events:
            assert service.item(event.id)["status"] == {"S": "COMPLETED"}
    assert len(of_kind(seen, WindowLost)) == 1
    assert [type(error) for error in errors] == [WindowLostError]


async def lose_window(bus: OutboxEventBus, service: SimulatedService) -> Event:
    """Let nothing answer until the lease of a window has ended, while one of its events is handled."""
    bus.on("order.placed", sleeping(100), timeout=600)
    await emit(bus, OPEN_AT)
    await asyncio.sleep(1)
    event = await bus.emit("order.placed")
    service.before = outage
    await asyncio.sleep(LEASE + 1)
    assert event is not None
    return event


async def test_an_outage_of_a_lease_loses_the_window(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any], errors: list[Any]
) -> None:
    async with bus:
        event = await lose_window(bus, service)
        assert len(of_kind(seen, WindowLost)) == 1
        assert sum(isinstance(error, WindowLostError) for error in errors) == 1
        service.before = unhindered
        await asyncio.sleep(600)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}
    assert windows(service) == []


async def test_the_worker_itself_recovers_the_events_of_a_lost_window_before_it_deletes_it(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any]
) -> None:
    async with bus:
        event = await lose_window(bus, service)
        assert len(of_kind(seen, WindowLost)) == 1
        service.before = fail_queries  # without queries, no recovery finds the window
        await asyncio.sleep(LEASE)
        assert windows(service) == []
        assert service.item(event.id)["status"] == {"S": "PENDING"}
        service.before = unhindered
        await asyncio.sleep(600)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}


async def test_handlers_end_before_the_lease_of_a_window_that_cannot_be_renewed(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any], errors: list[Any]
) -> None:
    bus.on("order.placed", sleeping(100), timeout=600)
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(1)
        event = await bus.emit("order.placed")
        service.before = fail_upkeep
        await asyncio.sleep(LEASE - 1)
        assert event.id in {each.event_id for each in of_kind(seen, HandlerFailed)}
        assert any(isinstance(error, PollingError) for error in errors)
        service.before = unhindered
        await asyncio.sleep(600)
        assert service.item(event.id)["status"] == {"S": "COMPLETED"}
    assert windows(service) == []


@pytest.mark.parametrize("reply", ["lost", "never applied"])
@pytest.mark.parametrize("operation", ["batch_execute_statement", "update_item", "delete_item"])
async def test_one_write_of_the_window_without_an_answer_changes_nothing(
    bus: OutboxEventBus, service: SimulatedService, seen: list[Any], operation: str, reply: str
) -> None:
    left = 1

    async def lose(called: str, parameters: Parameters) -> None:
        nonlocal left
        if called == operation and WINDOW_IDS in repr(parameters) and left:
            left -= 1
            raise client_error("InternalServerError", "an error of the test", operation=called)

    if reply == "lost":
        service.after = lose
    else:
        service.before = lose
    bus.on("order.placed", handled)
    async with bus:
        for _ in range(8):
            await emit(bus, OPEN_AT)
            await asyncio.sleep(THIRD / 2)
        await asyncio.sleep(2 * THIRD)
        assert windows(service) == []
    assert left == 0
    assert of_kind(seen, WindowLost) == []
    assert len(of_kind(seen, WindowOpened)) == 1
    assert len(of_kind(seen, EventCompleted)) == 8 * OPEN_AT


async def test_a_stop_leaves_no_window_behind(bus: OutboxEventBus, service: SimulatedService) -> None:
    bus.on("order.placed", sleeping(2))
    async with bus:
        await emit(bus, OPEN_AT)
        await asyncio.sleep(0.5)
        await emit(bus, 20)
        assert len(windows(service)) == 1
    assert windows(service) == []
    items = service.backend.tables["events"].items.values()
    assert Counter(item["status"]["S"] for item in items if "type" in item) == {"COMPLETED": OPEN_AT + 20}
