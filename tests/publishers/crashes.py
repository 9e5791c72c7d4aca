"""Buses whose events go to a broker, and a broker that crashes among them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dynamodb_outbox import Event, InMemoryOutbox, OutboxError, OutboxEventBus, TargetError
from dynamodb_outbox.publishers import FastStreamPublisher
from tests.publishers.servers import Server

EVENTS = 20


def a_bus(publisher: Callable[[Event], Awaitable[None]], on_error: Callable[[OutboxError], None]) -> OutboxEventBus:
    # A time without a broker costs retries, of which there are plenty.
    outbox = InMemoryOutbox(poll_interval=0.01, max_retries=100, batch_size=10, concurrency=10)
    bus = OutboxEventBus(outbox, on_error=on_error)
    bus.on("order.placed", publisher, backoff=lambda attempt, error: min(1, 0.05 * attempt))
    return bus


@dataclass
class Watched:
    """A publisher whose results a test can wait for."""

    publisher: FastStreamPublisher
    confirmed: list[str] = field(default_factory=list[str])
    failed: list[TargetError] = field(default_factory=list[TargetError])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, event: Event) -> None:
        try:
            await self.publisher(event)
        except TargetError as error:
            self.failed.append(error)
            raise
        else:
            self.confirmed.append(event.id)
        finally:
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def survives_a_crash(server: Server, publisher: FastStreamPublisher) -> list[str]:
    """Kill the broker while events are published, and start it again. Return the ids of the events, all completed."""
    watched = Watched(publisher)
    bus = a_bus(watched, lambda error: None)
    async with bus:
        emitted = await bus.emit_many([Event("order.placed", {"n": n}) for n in range(EVENTS)])
        await watched.until(lambda: len(watched.confirmed) > EVENTS // 4)
        server.kill()
        emitted += await bus.emit_many([Event("order.placed", {"n": n}) for n in range(EVENTS)])
        before, failed = len(watched.confirmed), len(watched.failed)
        await watched.until(lambda: len(watched.failed) > failed + 3)
        # What was confirmed a moment before the crash may be seen after it, but not more than that.
        assert len(watched.confirmed) <= before + 10
        assert len(watched.confirmed) < len(emitted)
        await asyncio.to_thread(server.start)
        await bus.drain(120)
    assert await bus.get_failed_events() == []
    ids = [event.id for event in emitted]
    assert sorted(watched.confirmed) == sorted(ids)
    return ids
