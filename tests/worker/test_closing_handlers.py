"""Handlers that are told of the stop of their bus."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import anyio
import pytest

from dynamodb_outbox import Event, EventStatus, InMemoryOutbox, OutboxEventBus


class Publisher:
    """A handler that opens a connection for its first event, and closes it when the bus has stopped."""

    def __init__(self, outbox: InMemoryOutbox) -> None:
        self._outbox = outbox
        self.is_open = False
        self.stops: list[list[EventStatus | None]] = []
        self._ids: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.is_open = True
        self._ids.append(event.id)
        await anyio.sleep(1)

    async def on_bus_stop(self) -> None:
        self.is_open = False
        self.stops.append([self._outbox.status_of(each) for each in self._ids])


@pytest.fixture
def outbox() -> InMemoryOutbox:
    return InMemoryOutbox()


async def test_handler_is_told_once_after_its_last_event_is_settled(outbox: InMemoryOutbox) -> None:
    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    bus.subscribe(["order.placed", "order.paid"], publisher)
    bus.on_any(publisher, name="also")
    async with bus:
        await bus.emit("order.placed", id="A")
        await anyio.sleep(0.5)
        assert publisher.is_open
    assert publisher.stops == [[EventStatus.COMPLETED] * 2]
    assert not publisher.is_open
    async with bus:
        pass
    assert len(publisher.stops) == 2


@pytest.mark.parametrize("way", ["off", "off_any", "remove_all_handlers", "once"])
async def test_handler_that_was_removed_is_told_of_the_next_stop_only(outbox: InMemoryOutbox, way: str) -> None:
    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    match way:
        case "off_any":
            bus.on_any(publisher)
        case "once":
            bus.once("order.placed", publisher)
        case _:
            bus.on("order.placed", publisher)
    async with bus:
        await bus.emit("order.placed", id="A")
        await bus.drain(30)
        match way:
            case "off":
                assert bus.off("order.placed", publisher)
            case "off_any":
                assert bus.off_any(publisher)
            case "remove_all_handlers":
                bus.remove_all_handlers()
        assert bus.handler_names("order.placed") == []
        assert publisher.is_open
    assert publisher.stops == [[EventStatus.COMPLETED]]
    async with bus:
        pass
    assert len(publisher.stops) == 1


async def test_handler_is_told_although_the_bus_was_stopped_by_a_handler(outbox: InMemoryOutbox) -> None:
    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    bus.on("order.placed", publisher)

    @bus.on("shop.closed")
    async def stop(event: Event) -> None:
        await bus.stop()

    await bus.start()
    await bus.emit("shop.closed")
    await anyio.sleep(5)
    assert not bus.running
    assert publisher.stops == [[]]


async def test_handler_is_not_told_by_run_once_because_the_next_call_goes_on_with_it(outbox: InMemoryOutbox) -> None:
    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    bus.on("order.placed", publisher)
    await bus.emit("order.placed")
    assert await bus.run_once() == 1
    assert publisher.is_open
    assert publisher.stops == []


async def test_bus_stops_though_a_handler_fails_to_close_and_another_one_never_does(
    outbox: InMemoryOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Publisher):
        async def on_bus_stop(self) -> None:
            raise OSError("the socket is gone")

    class Endless(Publisher):
        async def on_bus_stop(self) -> None:
            await anyio.sleep_forever()

    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    for handler in (Failing(outbox), Endless(outbox), publisher):
        bus.on("order.placed", handler)
    began = anyio.current_time()
    async with bus:
        pass
    assert anyio.current_time() - began == pytest.approx(5, abs=0.5)
    assert publisher.stops == [[]]
    texts = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(texts) == 2
    assert "raised an exception" in texts[0]
    assert "did not return within 5 s" in texts[1]


async def test_handler_closes_in_peace_when_a_cancelled_scope_ends_the_bus(outbox: InMemoryOutbox) -> None:
    class Slow(Publisher):
        async def on_bus_stop(self) -> None:
            await anyio.sleep(2)
            await super().on_bus_stop()

    bus, publisher = OutboxEventBus(outbox), Slow(outbox)
    bus.on("order.placed", publisher)
    with anyio.move_on_after(1):
        async with bus:
            await anyio.sleep_forever()
    assert publisher.stops == [[]]


async def test_bus_stops_without_a_handler_that_swallows_its_cancellation(outbox: InMemoryOutbox) -> None:
    may_end = anyio.Event()

    class Stubborn(Publisher):
        async def on_bus_stop(self) -> None:
            while not may_end.is_set():
                with suppress(asyncio.CancelledError):
                    await may_end.wait()
            await super().on_bus_stop()

    bus, publisher = OutboxEventBus(outbox), Stubborn(outbox)
    bus.on("order.placed", publisher)
    with anyio.fail_after(60):
        async with bus:
            pass
    assert not bus.running
    assert publisher.stops == []
    may_end.set()
    await anyio.sleep(1)
    assert publisher.stops == [[]]


async def test_a_method_that_cannot_even_be_read_keeps_no_other_from_its_end(outbox: InMemoryOutbox) -> None:
    class Unreadable:
        async def __call__(self, event: Event) -> None:
            pass

        @property
        def on_bus_stop(self) -> None:
            raise OSError("lazily connected")

    bus, publisher = OutboxEventBus(outbox), Publisher(outbox)
    for handler in (Unreadable(), publisher):
        bus.on("order.placed", handler)
    async with bus:
        pass
    assert publisher.stops == [[]]
