"""The worker's tests run in a time of their own: no wait costs time, and no machine is too slow for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamodb_outbox import InMemoryOutbox, OutboxEventBus, health_checks, heartbeat_file, incidents, sampling
from dynamodb_outbox.worker import heartbeat, vitals
from dynamodb_outbox.worker.handling import blocked_loop
from tests.fakes import ScriptedOutbox, quick_outbox
from tests.thorough import EVERYTHING
from tests.virtual_time import VirtualTime, install


@pytest.fixture
def errors() -> list[Any]:
    """What was reported to `on_error`."""
    return []


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return quick_outbox()


@pytest.fixture
def bus(outbox: ScriptedOutbox, errors: list[Any]) -> OutboxEventBus:
    return OutboxEventBus(outbox, on_error=errors.append)


@pytest.fixture(autouse=True)
async def debug_mode() -> None:
    """With EVERYTHING=1, the worker's tests run in asyncio's debug mode, which takes twice as long."""
    asyncio.get_running_loop().set_debug(EVERYTHING)


@pytest.fixture(autouse=True)
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """The time of the test's event loop, of each `InMemoryOutbox` without a clock, of handlers' steps, of health."""
    virtual = install(asyncio.get_running_loop(), monkeypatch)
    monkeypatch.setitem(InMemoryOutbox.__init__.__kwdefaults__, "clock", virtual.clock)
    monkeypatch.setattr(blocked_loop, "perf_counter", virtual.time)
    for module in (health_checks, heartbeat, heartbeat_file, incidents, sampling, vitals):
        monkeypatch.setattr(module, "monotonic", virtual.time)
    return virtual
