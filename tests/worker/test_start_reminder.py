"""What the bus says where nothing would happen, and nothing else would say so."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import anyio
import pytest

from dynamodb_outbox import ConfigurationError, DynamoDBOutbox, Event, InMemoryOutbox, OutboxEventBus, WaitTimeoutError
from dynamodb_outbox.start_reminder import PATIENCE_SECONDS


@pytest.fixture
def bus() -> OutboxEventBus:
    bus = OutboxEventBus(InMemoryOutbox(poll_interval=0.01))

    @bus.on("handled")
    async def handler(event: Event) -> None:
        pass

    return bus


async def _handle(event: Event) -> None:
    pass


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "dynamodb_outbox" and record.levelno == logging.WARNING
    ]


async def emit_for(bus: OutboxEventBus, seconds: float, *, type: str = "handled") -> None:
    for _ in range(int(seconds) + 1):
        await bus.emit(type)
        await anyio.sleep(1)


@pytest.mark.parametrize("how", ["emit", "emit_many", "transaction"])
async def test_forgotten_start_is_reported_once(
    bus: OutboxEventBus, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    for _ in range(20):
        if how == "emit":
            await bus.emit("handled")
        elif how == "emit_many":
            await bus.emit_many([Event("other"), Event("handled")])
        else:
            async with bus.transaction() as tx:
                tx.emit("handled")
        await anyio.sleep(1)
    assert len(warnings(caplog)) == 1
    (warning,) = warnings(caplog)
    assert "'handled'" in warning
    assert "await bus.start()" in warning


async def test_forgotten_start_of_a_bus_that_emits_once_is_reported(
    bus: OutboxEventBus, caplog: pytest.LogCaptureFixture
) -> None:
    await bus.emit("handled")
    await anyio.sleep(PATIENCE_SECONDS - 0.1)
    assert warnings(caplog) == []
    await anyio.sleep(0.2)
    assert len(warnings(caplog)) == 1


async def test_bus_that_is_gone_is_not_reminded(caplog: pytest.LogCaptureFixture) -> None:
    bus = OutboxEventBus(InMemoryOutbox())
    bus.on("handled", _handle)
    await bus.emit("handled")
    gone = weakref.ref(bus)
    del bus
    gc.collect()
    assert gone() is None
    await anyio.sleep(2 * PATIENCE_SECONDS)
    assert warnings(caplog) == []


async def test_start_that_comes_soon_is_not_missed(bus: OutboxEventBus, caplog: pytest.LogCaptureFixture) -> None:
    await emit_for(bus, 3)
    async with bus:
        await anyio.sleep(10)
        await bus.emit("handled")
    assert warnings(caplog) == []


async def test_process_that_only_emits_is_not_reminded(bus: OutboxEventBus, caplog: pytest.LogCaptureFixture) -> None:
    await emit_for(bus, 20, type="of other processes")
    assert warnings(caplog) == []


async def test_bus_that_has_worked_is_not_reminded(bus: OutboxEventBus, caplog: pytest.LogCaptureFixture) -> None:
    await bus.emit("handled")
    async with bus:
        pass
    await emit_for(bus, 20)
    assert warnings(caplog) == []


async def test_bus_that_is_run_once_is_not_reminded(bus: OutboxEventBus, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        await bus.emit("handled")
        await bus.run_once()
        await anyio.sleep(1)
    assert warnings(caplog) == []


async def test_drain_without_a_worker_says_so(bus: OutboxEventBus) -> None:
    await bus.emit("handled")
    with pytest.raises(WaitTimeoutError, match=r"1 PENDING.* left; no worker is started here.*await bus\.start\(\)"):
        await bus.drain(1)
    async with bus:
        await bus.emit("handled", delay=60)
        with pytest.raises(WaitTimeoutError) as caught:
            await bus.drain(1)
    assert "no worker" not in str(caught.value)


async def test_outbox_that_is_not_entered_is_refused_with_what_to_do() -> None:
    unentered: Any = DynamoDBOutbox.connect(table_name="events", region_name="us-east-1")
    with pytest.raises(ConfigurationError, match=r"async with DynamoDBOutbox\.connect\(\.\.\.\) as outbox"):
        OutboxEventBus(unentered)


@pytest.mark.parametrize("outbox", [None, "events", object(), InMemoryOutbox, {"options": 1}])
async def test_what_is_not_an_outbox_is_refused(outbox: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"outbox=.*it must be an outbox, such as a DynamoDBOutbox"):
        OutboxEventBus(outbox)
