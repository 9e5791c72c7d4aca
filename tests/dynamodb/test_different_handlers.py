"""Workers of one table whose handlers of a type differ: the one that starts later says so."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from dynamodb_outbox import Event, OutboxEventBus
from tests.conftest import MakeOutbox


async def handler(event: Event) -> None:
    pass


def bus_of(outbox: Any, **handlers: str) -> OutboxEventBus:
    """A bus with handlers of these names, by type."""
    bus = OutboxEventBus(outbox, on_error=lambda error: None)
    for event_type, names in handlers.items():
        for name in names.split():
            bus.on(event_type, handler, name=name)
    return bus


async def test_worker_warns_of_an_earlier_one_with_other_handlers(
    local_outbox: MakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="dynamodb_outbox")
    old = bus_of(local_outbox(poll_interval=0.02), one="mail", two="mail")
    new = bus_of(local_outbox(poll_interval=0.02), one="mail bill", two="mail")
    async with old:
        # Its announcement comes with its first poll.
        await old.emit("one")
        await old.drain(30)
        async with new:
            with anyio.move_on_after(10):
                while not caplog.records:
                    await anyio.sleep(0.02)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    text = caplog.records[0].getMessage()
    assert "'one'" in text
    assert "bill, mail" in text
    assert "docs/how-to/deploys.md" in text
