"""How long leaving `async with bus` waits for running handlers."""

from __future__ import annotations

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus
from tests.virtual_time import VirtualTime


async def seconds_to_leave(bus: OutboxEventBus, time: VirtualTime, *, handler_seconds: float) -> tuple[float, Event]:
    started = anyio.Event()

    @bus.on("report.requested", timeout=3600)
    async def write_report(event: Event) -> None:
        started.set()
        await anyio.sleep(handler_seconds)

    async with bus:
        event = await bus.emit("report.requested")
        assert event is not None
        await started.wait()
        began = time.time()
    return time.time() - began, event


async def test_bus_waits_20_seconds_for_running_handlers_by_default(virtual_time: VirtualTime) -> None:
    """ECS and Kubernetes kill a process 30 s after their SIGTERM: the rest of the stop needs some of these seconds."""
    outbox = InMemoryOutbox()
    seconds, event = await seconds_to_leave(OutboxEventBus(outbox), virtual_time, handler_seconds=600)
    assert seconds == pytest.approx(20, abs=0.5)
    assert outbox.status_of(event.id) is EventStatus.PENDING


async def test_handler_that_ends_within_the_stop_timeout_completes_its_event(virtual_time: VirtualTime) -> None:
    outbox = InMemoryOutbox()
    seconds, event = await seconds_to_leave(OutboxEventBus(outbox), virtual_time, handler_seconds=15)
    assert seconds == pytest.approx(15, abs=0.5)
    assert outbox.status_of(event.id) is EventStatus.COMPLETED


async def test_bus_without_stop_timeout_waits_for_a_handler_with_a_long_timeout(virtual_time: VirtualTime) -> None:
    outbox = InMemoryOutbox()
    bus = OutboxEventBus(outbox, stop_timeout=None)
    seconds, event = await seconds_to_leave(bus, virtual_time, handler_seconds=600)
    assert seconds == pytest.approx(600, abs=0.5)
    assert outbox.status_of(event.id) is EventStatus.COMPLETED
