"""Emits events like real services: with timeouts, and repeats of the same event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, Final, Protocol

from dynamodb_outbox import Event, OutboxEventBus
from dynamodb_outbox.emit_options import IfExists
from reliability.simulation.handlers import BUSINESS, in_spite_of_faults
from reliability.simulation.scenario import Emission, Way

REPEATS: Final = 20
_GROUPS: Final = (1, 1, 1, 1, 2, 2, 3, 5, 25)
"""How many events of a burst are emitted at once."""


class Begin(Protocol):
    """Starts a task of the service."""

    def __call__(self, work: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        """Start it."""
        ...


class Emitter:
    """Emits the events of a service."""

    def __init__(self, bus: OutboxEventBus, random: Random, *, begin: Begin) -> None:
        self._bus = bus
        self._random = random
        self._begin = begin

    async def emit(self, emission: Emission, events: Sequence[Event]) -> None:
        """Emit events in the way of an emission."""
        delay, first = emission.delay, events[0]
        match emission.way:
            case Way.SINGLE:
                await in_spite_of_faults(self._bus.emit(first, delay=delay))
            case Way.MANY | Way.TRANSACTION:
                emit = self._bus.emit_many if emission.way is Way.MANY else self._transaction
                await in_spite_of_faults(emit(events, delay=delay))
            case Way.REPEATED:
                await self._until_stored(first, delay)
            case Way.IMPATIENT:
                await self._impatiently(events, delay)
            case Way.SERIES:
                for event in events:
                    await self._alone(event, None)
            case Way.TWICE:
                twice = [self._begin(self._alone(event, delay)) for event in events for _ in range(2)]
                await asyncio.wait(twice)
            case _:
                raise AssertionError(f"{emission.way} has a separate method")

    async def _until_stored(self, event: Event, delay: float | None) -> None:
        for _ in range(REPEATS):
            if await in_spite_of_faults(self._bus.emit(event, delay=delay, if_exists="ignore")):
                return
            await asyncio.sleep(self._random.uniform(0, 5))

    async def burst(self, makers: Sequence[Callable[[], Event]]) -> None:
        """Emit events like a busy service: one by one and in groups, in all ways, and some of them twice.

        Most events are made when they are emitted, and some long before.
        """
        random, left, tasks = self._random, list(makers), list[asyncio.Task[bool]]()
        early = [make() for make in left[-10:]] if random.random() < 0.3 else []
        del left[len(left) - len(early) :]
        pause = random.choice([0.05, 0.2, 0.2, 0.5])
        while left or early:
            count = random.choice(_GROUPS)
            group, left = [make() for make in left[:count]], left[count:]
            if not group or (early and random.random() < 0.2):
                group.append(early.pop())
            if random.random() < 0.1:
                work = self._until_tired(group)
            else:
                work = self._alone(group[0], None) if len(group) == 1 else self._somehow(group, None)
            tasks.append(self._begin(work))
            await asyncio.sleep(random.choice([0.0, random.uniform(0, pause)]))
        await asyncio.wait(tasks)

    async def _until_tired(self, events: Sequence[Event]) -> bool:
        await self._impatiently(events, None)
        return True

    async def _impatiently(self, events: Sequence[Event], delay: float | None) -> None:
        """Emit with a timeout, and emit the same events again once or twice, perhaps in another way."""
        random = self._random
        for repeats_left in reversed(range(random.choice([2, 3]))):
            task = self._begin(self._somehow(events, delay))
            patience = random.choice([0.0, random.uniform(0, 0.05), random.uniform(0, 0.5), random.uniform(0, 6)])
            if not repeats_left and random.random() < 0.8:
                await asyncio.wait([task])
                return
            await asyncio.wait([task], timeout=patience)
            if task.done():
                if task.result():
                    return
            else:
                task.cancel()
                await asyncio.wait([task])
            await asyncio.sleep(random.choice([0.0, random.uniform(0, 0.1), random.uniform(0, 3)]))

    async def _somehow(self, events: Sequence[Event], delay: float | None) -> bool:
        """Emit events concurrently, as a list, or in a transaction; return whether all emits succeeded."""
        way = self._random.choice([self._side_by_side, self._side_by_side, self._as_list, self._in_transaction])
        return await way(events, delay)

    async def _side_by_side(self, events: Sequence[Event], delay: float | None) -> bool:
        tasks = [self._begin(self._alone(event, delay)) for event in events]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
        return all(task.result() for task in tasks)

    async def _alone(self, event: Event, delay: float | None) -> bool:
        return await in_spite_of_faults(self._bus.emit(event, delay=delay, if_exists=self._if_exists()))

    async def _as_list(self, events: Sequence[Event], delay: float | None) -> bool:
        return await in_spite_of_faults(self._bus.emit_many(events, delay=delay, if_exists=self._if_exists()))

    async def _in_transaction(self, events: Sequence[Event], delay: float | None) -> bool:
        return await in_spite_of_faults(self._transaction(events, delay))

    def _if_exists(self) -> IfExists:
        return self._random.choice(("raise", "ignore"))

    async def _transaction(self, events: Sequence[Event], delay: float | None) -> None:
        async with self._bus.transaction() as transaction:
            transaction.put(TableName=BUSINESS, Item={"id": events[0].id})
            for event in events:
                transaction.emit(event, delay=delay)
