"""The handlers of the simulated services. Each call of a handler draws its behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from dynamodb_outbox import Delivery, Event, OutboxError, OutboxEventBus, Reject, RetryLater
from reliability.simulation.faults import Faults, Kind
from reliability.simulation.scenario import LARGE_HANDLERS, LARGE_NAME, TYPES, Scenario

BUSINESS: Final = "business"
"""A business table of the service."""
BUSINESS_TABLE: Final = {
    "TableName": BUSINESS,
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}
CHILD: Final = "child"
"""The type of events that handlers emit."""


def name_of(number: int, scenario: Scenario) -> str:
    """Return the name of a handler; where events are large, names are long as well."""
    return f"h{number}".ljust(LARGE_NAME if scenario.is_large else 0, "-")


class Handlers:
    """The handlers of one process; `die` ends it at once."""

    def __init__(self, scenario: Scenario, faults: Faults, random: Random, *, die: Callable[[], None]) -> None:
        self._scenario = scenario
        self._faults = faults
        self._random = random
        self._die = die

    def register(self, bus: OutboxEventBus, *, without: str | None = None) -> None:
        """Register the handlers of every type but one."""
        for event_type in TYPES:
            if event_type != without:
                self.register_type(bus, event_type)
        bus.on(CHILD, self._handler(0), name="h0")

    def register_type(self, bus: OutboxEventBus, event_type: str) -> None:
        """Register the handlers of a type: one for the first type, two for the second, and so on."""
        scenario = self._scenario
        is_last = event_type == TYPES[-1]
        for number in range(LARGE_HANDLERS if scenario.is_large and is_last else TYPES.index(event_type) + 1):
            bus.on(
                event_type,
                self._handler(number),
                name=name_of(number, scenario),
                timeout=scenario.declared_timeout if number == 0 else None,
                max_retries=scenario.own_retries if number == 1 else None,
                concurrency=scenario.concurrency if number == 2 else None,
            )

    def _handler(self, number: int) -> Callable[[Event, Delivery], Awaitable[None]]:
        async def handle(event: Event, delivery: Delivery) -> None:
            await self._misbehave(delivery)
            await self._work(event, delivery, number)

        return handle

    async def _misbehave(self, delivery: Delivery) -> None:
        strikes, random = self._faults.strikes, self._random
        await asyncio.sleep(random.choice([0.0, random.uniform(0, 0.5)]))
        if strikes(Kind.HANDLER_DEADLY):
            self._die()
            await asyncio.sleep(0)
        if strikes(Kind.HANDLER_FAILED):
            later, never = RetryLater(random.uniform(0, 3)), Reject("no")
            raise random.choice([ValueError("no luck"), ValueError("no luck"), later, never])
        if strikes(Kind.HANDLER_SLOW):
            if random.random() < 0.3:
                await delivery.extend(self._scenario.lease * random.uniform(0.5, 2))
            await asyncio.sleep(self._scenario.lease * random.uniform(0.5, 3))
        if strikes(Kind.HANDLER_STUBBORN):
            try:
                await asyncio.sleep(self._scenario.lease * 2)
            except asyncio.CancelledError:
                await asyncio.sleep(random.uniform(0, 10))

    async def _work(self, event: Event, delivery: Delivery, number: int) -> None:
        if event.type == CHILD:
            return
        # A handler does the same in each attempt, like a real handler.
        random = Random(f"{event.id} {number}")
        choice, key = random.random(), None
        if event.ordering_key is not None:
            key = random.choice([event.ordering_key, event.ordering_key, "another key", None])
        if choice < 0.15:
            await delivery.emit(CHILD, {"of": event.id}, ordering_key=key)
        elif choice < 0.3:
            async with delivery.transaction() as transaction:
                transaction.put(TableName=BUSINESS, Item={"id": f"{event.id} {number}"})
                transaction.emit(CHILD, {"of": event.id}, ordering_key=key)


async def in_spite_of_faults(work: Awaitable[object]) -> bool:
    """Await a call that may fail with documented errors; return whether it succeeded."""
    try:
        await work
    except OutboxError:
        return False
    return True
