"""Handlers that are registered with a class: what they get, and what becomes of events that their class cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from dynamodb_outbox import (
    CallNext,
    ConfigurationError,
    Delivery,
    Event,
    EventStatus,
    EventType,
    FailedSelector,
    InvalidEventError,
    InvalidPayloadError,
    OutboxEventBus,
    Transaction,
    UnknownVersionError,
    UnregisteredClassError,
    event_type,
    upcast,
)
from dynamodb_outbox.event import with_payload
from tests.fakes import ScriptedOutbox

VALIDATED: list[str] = []


@event_type("typed.placed", version=2)
@dataclass
class Placed:
    order: str
    currency: str
    items: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        VALIDATED.append(self.order)


@upcast("typed.placed", from_version=1)
def add_currency(payload: dict[str, Any]) -> dict[str, Any]:
    payload["currency"] = "EUR"
    return payload


NEWER = EventType("typed.placed", dict[str, Any], 3)
"""The class of the same events in a later release."""


@upcast("typed.placed", from_version=2)
def add_total(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "total": 0}


@event_type("typed.billed")
@dataclass
class Billed:
    order: str


class Got:
    """A handler that keeps its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def payloads(self) -> list[Any]:
        return [event.payload for event in self.events]


async def test_handlers_of_a_class_share_an_instance_and_others_get_the_stored_payload(bus: OutboxEventBus) -> None:
    first, second, plain, other = Got(), Got(), Got(), Got()
    bus.on(Placed, first, name="first")
    bus.subscribe([Placed, Billed], second, name="second")
    bus.on("typed.placed", plain, name="plain")
    bus.on(EventType("typed.placed", dict[str, Any], 2), other, name="other")
    VALIDATED.clear()
    async with bus:
        event = await bus.emit(Placed("a", "USD", [1]), id="e1", metadata={"by": "ada"})
        await bus.emit(Billed("b"))
        await bus.drain(10)
    assert event is not None
    stored = {"order": "a", "currency": "USD", "items": [1]}
    assert event.payload == stored
    assert first.payloads == [Placed("a", "USD", [1])]
    assert second.payloads == [Placed("a", "USD", [1]), Billed("b")]
    assert first.payloads[0] is second.payloads[0]
    assert plain.payloads == other.payloads == [stored]
    assert first.events[0].metadata == plain.events[0].metadata == {"by": "ada", "schemaVersion": 2}
    assert (first.events[0].id, first.events[0].type) == ("e1", "typed.placed")


async def test_the_payload_is_validated_once_for_a_class_and_attempt(bus: OutboxEventBus) -> None:
    calls: list[int] = []

    async def fails_once(event: Event, delivery: Delivery) -> None:
        calls.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError

    bus.on(Placed, fails_once, name="a")
    bus.on(Placed, fails_once, name="b")
    VALIDATED.clear()
    async with bus:
        await bus.emit("typed.placed", {"order": "once"})
        await bus.drain(10)
    assert calls == [1, 1, 2, 2]
    assert VALIDATED == ["once", "once"]


async def test_every_emit_takes_instances(bus: OutboxEventBus) -> None:
    got = Got()
    bus.on(Billed, got)

    @bus.on(Placed)
    async def bill(event: Event[Placed], delivery: Delivery) -> None:
        await delivery.emit(Billed("delivery.emit"), metadata=dict(event.metadata))
        await delivery.emit(EventType("typed.billed", Billed), Billed("an EventType"))
        async with delivery.transaction() as tx:
            tx.emit(Billed("delivery.transaction"))

    async with bus:
        await bus.emit(Placed("a", "EUR"))
        await bus.emit_many([Billed("many"), Event("typed.billed", {"order": "an Event"})])
        async with bus.transaction() as tx:
            tx.emit(Billed("transaction"))
            await bus.emit(Billed("joined"), transaction=tx)
        await bus.drain(10)
    assert {payload.order for payload in got.payloads} == {
        "delivery.emit", "an EventType", "delivery.transaction", "many", "an Event", "transaction", "joined",
    }  # fmt: skip
    child = next(event for event in got.events if event.payload.order == "delivery.emit")
    assert "schemaVersion" not in child.metadata
    assert {"causationId", "correlationId"} <= child.metadata.keys()


async def test_a_repeated_child_of_a_class_has_the_same_id(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    bus.on(Billed, Got())

    @bus.on(Placed)
    async def bill(event: Event[Placed], delivery: Delivery) -> None:
        await delivery.emit(Billed(event.payload.order))
        if delivery.attempt < 3:
            raise ValueError

    async with bus:
        event = await bus.emit(Placed("a", "EUR"))
        await bus.drain(60)
    assert event is not None
    assert len(outbox.stored_ids - {event.id}) == 1


async def test_an_unregistered_class_stores_nothing(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    @dataclass
    class Unknown:
        number: int

    def in_transaction(tx: Transaction) -> None:
        tx.emit(Unknown(1))

    with pytest.raises(UnregisteredClassError):
        await bus.emit(Unknown(1))
    with pytest.raises(UnregisteredClassError):
        await bus.emit_many([Billed("a"), Unknown(1)])
    with pytest.raises(UnregisteredClassError):
        async with bus.transaction() as tx:
            in_transaction(tx)
    assert outbox.count_of("publish", "transact") == 0


async def test_an_invalid_payload_is_a_dead_letter_at_once(
    bus: OutboxEventBus, outbox: ScriptedOutbox, errors: list[Any]
) -> None:
    typed, plain = Got(), Got()
    bus.on(Placed, typed, name="typed", max_retries=5)
    bus.on("typed.placed", plain, name="plain")
    async with bus:
        event = await bus.emit("typed.placed", {"order": "a", "items": [1, "two"]})
        await bus.drain(10)
    (failed,) = await bus.get_failed_events()
    assert event is not None
    assert (failed.id, failed.retry_count, failed.error_type, failed.error_handler) == (
        event.id, 0, "InvalidPayloadError", "typed",
    )  # fmt: skip
    assert "payload.items[1]" in failed.last_error
    assert failed.payload == {"order": "a", "items": [1, "two"]}  # not changed by the upcaster
    assert failed.handled_by == {"plain"}
    assert typed.events == []
    (error,) = errors
    assert isinstance(error, InvalidPayloadError)
    assert (error.event_id, error.path, error.payload_class) == (event.id, "payload.items[1]", "Placed")


async def test_a_newer_version_waits_for_a_worker_that_knows_it(errors: list[Any]) -> None:
    outbox = ScriptedOutbox(poll_interval=1.0)
    old, new = (OutboxEventBus(outbox, on_error=errors.append) for _ in range(2))
    typed, plain, newer = Got(), Got(), Got()
    old.on(Placed, typed, name="typed")
    old.on("typed.placed", plain, name="plain")
    new.on(NEWER, newer, name="typed")
    new.on("typed.placed", plain, name="plain")
    async with old:
        events = [await old.emit("typed.placed", {"total": 5}, metadata={"schemaVersion": 3}, id=each) for each in "ab"]
        await anyio.sleep(60)
    assert all(event and outbox.status_of(event.id) is EventStatus.PENDING for event in events)
    assert {claim.attempt for claim in outbox.claims} == {1}
    # As long as an event that has no handler: after 1, 1, 2, 4, ... 16 s, each time at the next poll.
    assert 2 * 5 <= len(outbox.claims) <= 2 * 7
    (error,) = errors
    assert isinstance(error, UnknownVersionError)
    assert (error.version, error.known) == (3, 2)
    async with new:
        await new.drain(200)
    assert typed.events == []
    assert newer.payloads == [{"total": 5}] * 2
    assert len(plain.events) == 2  # before the release, and not again
    assert await new.get_failed_events() == []


async def test_a_newer_version_that_no_worker_knows_fails_after_the_timeout(errors: list[Any]) -> None:
    bus = OutboxEventBus(ScriptedOutbox(unhandled_timeout=100.0), on_error=errors.append)
    bus.on(Placed, Got(), name="typed")
    async with bus:
        await bus.emit("typed.placed", {}, metadata={"schemaVersion": 3})
        await anyio.sleep(300)
    (failed,) = await bus.get_failed_events()
    assert (failed.error_type, failed.retry_count) == ("UnknownVersionError", 0)
    assert "has version 3, but the class here has version 2" in failed.last_error


async def test_middleware_sees_the_stored_payload_and_the_class_reads_what_it_passes_on(
    bus: OutboxEventBus, errors: list[Any]
) -> None:
    seen: list[Any] = []
    got = Got()
    bus.on(Placed, got)

    async def decrypt(event: Event, call_next: CallNext) -> None:
        seen.append(event.payload)
        await call_next(with_payload(event, {**event.payload, "order": event.payload["order"].upper()}))

    async def encrypt(event: Event, call_next: CallNext) -> None:
        seen.append(event.payload)
        await call_next(with_payload(event, {**event.payload, "order": event.payload["order"].lower()}))

    bus.add_handler_middleware(decrypt)
    bus.add_emit_middleware(encrypt)
    async with bus:
        await bus.emit(Placed("A", "EUR"))
        await bus.drain(10)
    assert [payload["order"] for payload in seen] == ["A", "a"]
    assert got.payloads == [Placed("A", "EUR")]
    assert errors == []


async def test_middleware_that_swallows_everything_does_not_complete_a_newer_version(
    bus: OutboxEventBus, outbox: ScriptedOutbox
) -> None:
    bus.on(Placed, Got())

    async def swallow(event: Event, call_next: CallNext) -> None:
        try:
            await call_next(event)
        except BaseException:
            return

    bus.add_handler_middleware(swallow)
    async with bus:
        event = await bus.emit("typed.placed", {}, metadata={"schemaVersion": 3})
        await anyio.sleep(5)
    assert event is not None
    assert outbox.status_of(event.id) is EventStatus.PENDING


async def test_classes_stand_for_names(bus: OutboxEventBus) -> None:
    got, once = Got(), Got()
    bus.on(Placed, got, name="got")
    bus.once(Placed, once, name="once")
    assert bus.handlers(Placed) == bus.handlers("typed.placed") == [got, once]
    assert bus.handler_names(Placed) == ["got", "once"]
    async with bus, anyio.create_task_group() as group:
        waited: list[Any] = []

        async def wait() -> None:
            waited.append((await bus.wait_for(Placed)).payload)
            waited.append((await bus.wait_for("typed.placed")).payload)

        group.start_soon(wait)
        await anyio.sleep(0.1)
        await bus.emit(Placed("a", "EUR"))
        await anyio.sleep(0.1)
        await bus.emit(Placed("b", "EUR"))
    assert waited == [Placed("a", "EUR"), {"order": "b", "currency": "EUR", "items": []}]
    assert once.payloads == [Placed("a", "EUR")]
    assert bus.off(Placed, got)
    bus.on(Placed, got)
    bus.remove_all_handlers(Placed)
    assert bus.event_types() == []


# Operators


async def test_operators_may_name_a_type_by_its_class(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    @bus.on(Billed, max_retries=0)
    async def bill(event: Event[Billed]) -> None:
        raise ValueError

    async with bus:
        event = await bus.emit(Billed("A-1"))
        await bus.drain(5)
    assert event is not None
    by_class = EventType("typed.billed", Billed)
    for kind in (Billed, by_class, "typed.billed"):
        assert [each.id for each in await bus.get_failed_events(type=kind)] == [event.id]
        assert [each.id for each in (await bus.list_events("failed", type=kind)).events] == [event.id]
        assert FailedSelector(type=kind).type_name == "typed.billed"
    assert (await bus.retry_events(FailedSelector(type=Placed))).done == ()
    assert (await bus.retry_events(FailedSelector(type=Billed))).done == (event.id,)
    await bus.hold(Billed, reason="the bank is down", by="ada")
    assert [hold.type for hold in await bus.holds()] == ["typed.billed"]
    await bus.resume(Billed)
    assert await bus.holds() == []


@pytest.mark.parametrize("kind", [int, "", 5, Event])
async def test_value_that_is_no_type_is_refused_by_the_calls_of_operators(bus: OutboxEventBus, kind: Any) -> None:
    for call in (
        lambda: bus.get_failed_events(type=kind),
        lambda: bus.list_events("due", type=kind),
        lambda: bus.hold(kind, reason="why", by="ada"),
        lambda: bus.resume(kind),
    ):
        with pytest.raises(ConfigurationError, match="type="):
            await call()
    with pytest.raises(ConfigurationError, match="type="):
        FailedSelector(type=kind)


async def test_replacement_may_be_an_instance_of_the_class(bus: OutboxEventBus, outbox: ScriptedOutbox) -> None:
    got: list[Placed] = []

    @bus.on(Placed)
    async def place(event: Event[Placed]) -> None:
        got.append(event.payload)

    old = await bus.emit("typed.placed", {"order": "A-1"})
    assert old is not None
    with pytest.raises(InvalidEventError, match=r"is the payload of 'typed\.billed' events"):
        await bus.replace_event(old.id, Billed("A-1"), reason="wrong", by="ada")
    new = await bus.replace_event(old.id, Placed("A-1", "USD"), reason="wrong", by="ada")
    async with bus:
        await bus.drain(5)
    assert (new.payload, new.metadata) == (
        {"order": "A-1", "currency": "USD", "items": []},
        {"schemaVersion": 2, "replaces": old.id},
    )
    assert got == [Placed("A-1", "USD")]
