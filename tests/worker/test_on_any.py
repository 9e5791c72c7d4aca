"""Handlers of the events of every type."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import DuplicateHandlerError, Event, OutboxEventBus
from tests.fakes import ScriptedOutbox


async def test_it_gets_the_events_of_every_type_next_to_their_handlers(bus: OutboxEventBus, errors: list[Any]) -> None:
    of_all: list[str] = []
    of_one: list[str] = []

    @bus.on_any(name="publish")
    async def publish(event: Event) -> None:
        of_all.append(event.type)

    @bus.on("a")
    async def handle(event: Event) -> None:
        of_one.append(event.type)

    async with bus:
        await bus.emit("a")
        await bus.emit("b")
        await bus.drain(10)
    assert sorted(of_all) == ["a", "b"]
    assert of_one == ["a"]
    assert errors == []
    assert bus.event_types() == ["a"]
    assert bus.handler_names("b") == ["publish"]
    assert bus.handlers("a") == [handle, publish]


async def test_only_the_handler_that_failed_runs_again(bus: OutboxEventBus) -> None:
    calls: list[str] = []

    async def fails_once(event: Event) -> None:
        calls.append("any")
        if calls.count("any") == 1:
            raise ValueError

    async def handle(event: Event) -> None:
        calls.append("own")

    bus.on("a", handle)
    bus.on_any(fails_once)
    async with bus:
        await bus.emit("a")
        await bus.drain(10)
    assert sorted(calls) == ["any", "any", "own"]


async def test_names_are_unique_among_all_handlers(bus: OutboxEventBus) -> None:
    async def handle(event: Event) -> None: ...

    bus.on("a", handle)
    with pytest.raises(DuplicateHandlerError):
        bus.on_any(handle)
    bus.on_any(handle, name="any")
    for register in (lambda: bus.on("b", handle, name="any"), lambda: bus.on_any(handle, name="any")):
        with pytest.raises(DuplicateHandlerError):
            register()
    assert bus.event_types() == ["a"]


async def test_it_is_removed(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    async def handle(event: Event) -> None: ...

    bus.on_any(handle)
    bus.remove_all_handlers("a")
    assert bus.handlers("a") == [handle]
    assert bus.off_any(handle)
    assert not bus.off_any(handle)
    bus.on_any(handle)
    bus.remove_all_handlers()
    assert bus.handlers("a") == []


async def test_it_counts_for_the_announcement_and_the_largest_number_of_retries(bus: OutboxEventBus) -> None:
    async def handle(event: Event) -> None: ...

    registry = bus._registry
    bus.on("a", handle, name="own", max_retries=3)
    bus.on_any(handle, name="any", max_retries=9)
    assert registry.names() == {"a": ("own",), "*": ("any",)}
    assert registry.most_retries(1) == 9
    assert registry.of("a") is registry.of("a")


async def test_many_of_them_are_suspicious(outbox: ScriptedOutbox) -> None:
    many: list[tuple[str, int]] = []
    bus = OutboxEventBus(outbox, max_handlers=1, on_max_handlers=lambda bus, type, count: many.append((type, count)))

    async def handle(event: Event) -> None: ...

    bus.on_any(handle, name="a")
    bus.on_any(handle, name="b")
    assert many == [("*", 2)]
