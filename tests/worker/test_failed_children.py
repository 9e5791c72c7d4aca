"""A handler goes on after the emit of a child failed: only a repeat of that emit is taken for the same child."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from dynamodb_outbox import CallNext, Delivery, Event, InvalidEventError, OutboxEventBus
from tests.simulated_table import Parameters, SimulatedService
from tests.virtual_time import EPOCH, VirtualTime

Child = tuple[Any, dict[str, Any]]
"""The payload of a child, and the options of its emit."""


@pytest.fixture
def service(virtual_time: VirtualTime) -> SimulatedService:
    return SimulatedService(virtual_time)


@pytest.fixture
def bus(service: SimulatedService) -> OutboxEventBus:
    return OutboxEventBus(service.outbox(poll_interval=1, claim_on_emit=False))


def slow_replies(*, count: int) -> Callable[[str, Parameters], Any]:
    """Hold up the first replies to puts, which are stored by then, until the handler has given them up."""
    left = count

    async def rule(operation: str, _: Parameters) -> None:
        nonlocal left
        if operation == "put_item" and left:
            left -= 1
            await asyncio.sleep(2)

    return rule


async def children_of(
    bus: OutboxEventBus, service: SimulatedService, emits: Callable[[], Iterator[Child]], *, lost: int = 1
) -> list[Event]:
    """Handle an event whose handler gives up each emit after a second, and goes on; return what is stored of it."""
    stored: list[Event] = []
    returned: list[str] = []

    @bus.on("child")
    async def child(event: Event) -> None:
        stored.append(event)

    @bus.on("parent")
    async def parent(event: Event, delivery: Delivery) -> None:
        for payload, options in emits():
            with suppress(TimeoutError, InvalidEventError):
                async with asyncio.timeout(1):
                    emitted = await delivery.emit("child", payload, **options)
                    assert emitted is not None
                    returned.append(emitted.id)

    async with bus:
        await bus.emit("parent")
        service.after = slow_replies(count=lost)
        await asyncio.sleep(100)
        await bus.drain(timeout=60)
    assert {event.id for event in stored} >= set(returned)
    return stored


def listed(*children: Child) -> Callable[[], Iterator[Child]]:
    return lambda: iter(children)


async def test_payload_that_is_changed_in_place_makes_another_child(
    bus: OutboxEventBus, service: SimulatedService
) -> None:
    def emits() -> Iterator[Child]:
        payload: dict[str, Any] = {"line": {"sku": 0}}
        for n in range(3):
            payload["line"]["sku"] = n
            yield payload, {}

    stored = await children_of(bus, service, emits)
    assert sorted(event.payload["line"]["sku"] for event in stored) == [0, 1, 2]


TO_ADA = {"to": "ada"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((TO_ADA, {"metadata": {"channel": "mail"}}), (TO_ADA, {"metadata": {"channel": "sms"}})),
        ((TO_ADA, {"metadata": {"urgent": 1}}), (TO_ADA, {"metadata": {"urgent": True}})),
        ((TO_ADA, {"delay": 5}), (TO_ADA, {"delay": 50})),
        ((TO_ADA, {}), (TO_ADA, {"delay": 0})),
        (
            (TO_ADA, {"deliver_at": datetime.fromtimestamp(EPOCH + 10, UTC)}),
            (TO_ADA, {"deliver_at": datetime.fromtimestamp(EPOCH + 20, UTC)}),
        ),
        ((TO_ADA, {}), (TO_ADA, {"ordering_key": "order-17"})),
        ((1, {}), (True, {})),
        (([0], {}), ([False], {})),
        (({"n": 1}, {}), ({"n": 1.0}, {})),
        (({"n": 1}, {}), ({"n": Decimal(1)}, {})),
        (({"n": 0.0}, {}), ({"n": -0.0}, {})),
        (({1, 2}, {}), ({1.0, 2.0}, {})),
        ((b"a", {}), ("a", {})),
    ],
)
async def test_child_that_differs_in_anything_is_another_one(
    bus: OutboxEventBus, service: SimulatedService, first: Child, second: Child
) -> None:
    stored = await children_of(bus, service, listed(first, second))
    assert len({event.id for event in stored}) == 2


class Color(Enum):
    RED = "red"


@dataclass
class Incomparable:
    """Raises for `==`, as an array does whose comparison has no single truth."""

    n: int

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


async def test_payload_that_cannot_be_compared_makes_another_child(
    bus: OutboxEventBus, service: SimulatedService
) -> None:
    children = listed((Incomparable(0), {}), (Incomparable(1), {}), (Incomparable(0), {}))
    stored = await children_of(bus, service, children)
    assert sorted(event.payload["n"] for event in stored) == [0, 1]


ALL_KINDS = {
    "text": "ö",
    "none": None,
    "flags": [True, False],
    "numbers": (1, 1.5, Decimal("1.5")),
    "bytes": [b"a", bytearray(b"b"), memoryview(b"c")],
    "sets": [{"a", "b"}, {1, 2}, frozenset({b"a"})],
    "times": [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC).date()],
    "id": UUID(int=7),
    "color": Color.RED,
    "object": Incomparable(0),
}


@pytest.mark.parametrize("options", [{}, {"metadata": {"a": [1]}}, {"delay": 1.5}])
async def test_repeat_of_a_failed_emit_is_the_same_child(
    bus: OutboxEventBus, service: SimulatedService, options: dict[str, Any]
) -> None:
    def emits() -> Iterator[Child]:
        for _ in range(3):
            # Equal, in another order, and another object.
            yield dict(reversed(ALL_KINDS.items())), options
            yield dict(ALL_KINDS), options

    stored = await children_of(bus, service, emits, lost=3)
    assert len({event.id for event in stored}) == 3, "one for each that failed and its repeat"


class Opaque:
    """Storable only in the form that a middleware gives it."""


@pytest.mark.parametrize("cyclic", [False, True])
async def test_payload_that_only_a_middleware_can_read_makes_a_child_per_emit(
    bus: OutboxEventBus, service: SimulatedService, *, cyclic: bool
) -> None:
    async def convert(event: Event, call_next: CallNext) -> None:
        await call_next(event if event.payload is None else replace(event, payload={"converted": True}))

    bus.add_emit_middleware(convert)
    payload: Any = [Opaque()]
    if cyclic:
        payload[0] = payload
    stored = await children_of(bus, service, listed((payload, {}), (payload, {})))
    assert len({event.id for event in stored}) == 2


async def test_refused_repeat_does_not_lose_the_child_that_may_be_stored(
    bus: OutboxEventBus, service: SimulatedService
) -> None:
    calls = 0

    async def refuse_the_second(event: Event, call_next: CallNext) -> None:
        nonlocal calls
        calls += event.type == "child"
        if event.type == "child" and calls == 2:
            raise InvalidEventError("not now")
        await call_next(event)

    bus.add_emit_middleware(refuse_the_second)
    stored = await children_of(bus, service, listed(*[(TO_ADA, {})] * 3))
    assert (calls, len({event.id for event in stored})) == (3, 1)


async def test_child_that_is_refused_has_a_position_in_every_attempt(
    bus: OutboxEventBus, service: SimulatedService
) -> None:
    attempts: list[str] = []

    @bus.on("parent", name="again", backoff=lambda attempt, error: 0.1)
    async def again(event: Event, delivery: Delivery) -> None:
        with pytest.raises(InvalidEventError):
            await delivery.emit("child", Opaque())
        emitted = await delivery.emit("child", 1)
        assert emitted is not None
        attempts.append(emitted.id)
        if delivery.attempt == 1:
            raise ConnectionError

    stored = await children_of(bus, service, listed(), lost=0)
    assert len(attempts) == 2
    assert set(attempts) == {event.id for event in stored}
