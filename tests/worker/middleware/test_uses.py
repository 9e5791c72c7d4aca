"""What middleware is for: it replaces events, drops them, raises, and wraps handlers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dynamodb_outbox import Event, EventStatus, OutboxEventBus
from tests.fakes import Recorder, ScriptedOutbox, quick_outbox

PENDING, PROCESSING, COMPLETED, FAILED, *_ = EventStatus


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return quick_outbox()


async def test_emit_middleware_replaces_drops_and_raises(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    order: list[str] = []

    async def stamp(event: Event, call_next: Any) -> None:
        order.append("stamp")
        await call_next(dataclasses.replace(event, metadata={"tenant": "a"}))

    async def guard(event: Event, call_next: Any) -> None:
        order.append("guard")
        if event.type == "secret":
            return
        if event.type == "bad":
            raise PermissionError("not you")
        await call_next(event)

    bus.add_emit_middleware(stamp, guard)
    sent = await bus.emit("order.placed")
    assert (sent.metadata, order) == ({"tenant": "a"}, ["stamp", "guard"])
    stored = await bus.emit_many([Event("a", id="1"), Event("secret", id="2"), Event("b", id="3")])
    assert [event.id for event in stored] == ["1", "3"]
    with pytest.raises(PermissionError):
        await bus.emit_many([Event("c"), Event("bad")])
    assert await outbox.count(PENDING) == 3


async def test_handler_middleware_wraps_each_handler(bus: OutboxEventBus) -> None:
    log: list[str] = []

    async def trace(event: Event, call_next: Any) -> None:
        log.append("before")
        await call_next(dataclasses.replace(event, payload="replaced"))
        log.append("after")

    bus.add_handler_middleware(trace)
    bus.on("order.placed", handled := Recorder())
    async with bus:
        await bus.emit("order.placed", "original")
        await bus.drain(5)
    assert ([event.payload for event in handled.events], log) == (["replaced"], ["before", "after"])


async def test_handler_middleware_may_drop_or_fail(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    calls = 0

    async def gate(event: Event, call_next: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError("the cache is down")

    bus.add_handler_middleware(gate)
    bus.on("order.placed", handled := Recorder())
    async with bus:
        event = await bus.emit("order.placed")
        await bus.drain(5)
    assert (handled.events, calls, outbox.status_of(event.id)) == ([], 2, COMPLETED)
