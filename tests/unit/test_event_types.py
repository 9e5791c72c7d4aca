"""Registering classes and upcasters: what is refused, and what a stored payload becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import Any, TypedDict
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodb_outbox import (
    ConfigurationError,
    Event,
    EventType,
    InMemoryOutbox,
    InvalidPayloadError,
    OutboxEventBus,
    UnknownVersionError,
    UnregisteredClassError,
    UnstorableValueError,
    event_type,
    upcast,
)
from dynamodb_outbox.emit_options import event_of
from dynamodb_outbox.typed.event_types import event_type_of
from dynamodb_outbox.typed.stored_form import from_stored


@pytest.fixture
def name() -> str:
    """A name that no other test registers: registrations last as long as the process."""
    return f"test.{uuid4().hex}"


def a_class(name: str, *, version: int = 1, class_name: str = "Order") -> Any:
    return event_type(name, version=version)(make_dataclass(class_name, [("steps", list[int])]))


def adds(name: str, version: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    @upcast(name, from_version=version)
    def add(payload: dict[str, Any]) -> dict[str, Any]:
        payload["steps"].append(version)
        return payload

    return add


def read(name: str, kind: Any, payload: Any, version: Any = None) -> Any:
    metadata = {} if version is None else {"schemaVersion": version}
    found = event_type_of(kind)
    assert found is not None
    return from_stored(Event(name, payload, id="e1", metadata=metadata), found)


def test_the_class_is_returned_unchanged_and_the_name_is_stored(name: str) -> None:
    @dataclass
    class Order:
        number: int

    before = dict(vars(Order))
    assert event_type(name)(Order) is Order
    assert dict(vars(Order)) == before
    event = event_of(Order(5))
    assert (event.type, event.payload, event.metadata) == (name, {"number": 5}, {})


def test_a_later_version_is_in_the_metadata_and_replaces_a_passed_on_one(name: str) -> None:
    kind = a_class(name, version=2)
    assert event_of(kind([])).metadata == {"schemaVersion": 2}
    assert event_of(kind([]), metadata={"a": 1, "schemaVersion": 7}).metadata == {"a": 1, "schemaVersion": 2}
    first = EventType(name, dict[str, Any])
    assert event_of(first, {}, metadata={"a": 1, "schemaVersion": 7}).metadata == {"a": 1}


@pytest.mark.parametrize("bad", [0, -1, True, "1", 1.0])
def test_versions_are_whole_numbers_from_1(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="whole number from 1"):
        a_class(name, version=bad)
    with pytest.raises(ConfigurationError, match="whole number from 1"):
        upcast(name, from_version=bad)


@pytest.mark.parametrize("bad", ["", "*", None, 5])
def test_names_are_texts(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="name of an event type"):
        a_class(bad)


@pytest.mark.parametrize("bad", [int, str, list, list[int], 5, object])
def test_other_classes_are_refused(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be an event type"):
        event_type(name)(bad)


def test_decorators_in_the_wrong_order_are_explained(name: str) -> None:
    with pytest.raises(ConfigurationError, match="above @dataclass"):

        @dataclass
        @event_type(name)
        class Order:
            number: int


def test_a_second_class_of_a_name_is_refused_and_a_reloaded_one_is_not(name: str) -> None:
    a_class(name)
    again = a_class(name)
    assert event_of(again([])).type == name
    with pytest.raises(ConfigurationError, match=rf"{name}.*already.*EventType"):
        a_class(name, class_name="Invoice")


def test_a_decorator_without_a_name_is_refused_before_it_replaces_the_class() -> None:
    with pytest.raises(ConfigurationError, match=r"as in @event_type"):
        event_type(make_dataclass("Order", ["x"]))  # type: ignore[arg-type] # @event_type, without (...)


def test_a_second_name_of_a_class_is_refused(name: str) -> None:
    kind = a_class(name)
    with pytest.raises(ConfigurationError, match=rf"Order is registered as '{name}' already.*use EventType\('other'"):
        event_type("other")(kind)
    assert event_of(kind([])).type == name
    assert event_of(EventType("other", kind), kind([])).type == "other"


def test_a_class_in_place_of_an_instance_is_refused(name: str) -> None:
    for kind in (a_class(name), make_dataclass("Order", ["x"])):
        with pytest.raises(UnstorableValueError, match="Order is a class; emit an instance of it"):
            event_of(kind)


def test_a_class_that_becomes_a_list_is_refused_by_the_emit(name: str) -> None:
    class Row(msgspec.Struct, array_like=True):
        number: int

    with pytest.raises(UnstorableValueError, match="Row becomes a list of 1; use a class that becomes a dict"):
        event_of(event_type(name)(Row)(1))


def test_a_subclass_and_an_unregistered_class_are_refused(name: str) -> None:
    kind = a_class(name)
    below = type("Below", (kind,), {})
    for instance in (below([]), make_dataclass("Other", ["x"])(1)):
        with pytest.raises(UnregisteredClassError, match=r"not registered.*@event_type") as caught:
            event_of(instance)
        assert caught.value.payload_class is type(instance)
    with pytest.raises(ConfigurationError, match="not registered"):
        event_type_of(below)


def test_a_payload_next_to_an_instance_is_refused(name: str) -> None:
    with pytest.raises(UnstorableValueError, match="second argument"):
        event_of(a_class(name)([]), {"steps": []})


def test_the_payload_of_an_event_type_has_its_class(name: str) -> None:
    class Shape(TypedDict):
        steps: list[int]

    assert event_of(EventType(name, Shape), {"steps": [1]}).payload == {"steps": [1]}
    kind = make_dataclass("Order", [("steps", list[int])])
    assert event_of(EventType(name, kind), kind([1])).payload == {"steps": [1]}
    for wanted, payload in ((Shape, None), (kind, {"steps": []}), (Shape, kind([]))):
        with pytest.raises(UnstorableValueError, match="payload cannot be stored"):
            event_of(EventType(name, wanted), payload)


@given(current=st.integers(1, 6), data=st.data())
def test_an_event_of_any_version_passes_the_upcasters_from_there(current: int, data: st.DataObject) -> None:
    name = f"test.{uuid4().hex}"
    # In any order, and before or after the class.
    versions = data.draw(st.permutations(range(1, current)))
    cut = data.draw(st.integers(0, len(versions)))
    for version in versions[:cut]:
        adds(name, version)
    kind = a_class(name, version=current)
    for version in versions[cut:]:
        adds(name, version)
    for stored in range(1, current + 1):
        payload: dict[str, Any] = {"steps": []}
        assert read(name, kind, payload, stored).steps == list(range(stored, current))
        assert payload == {"steps": []}


def test_an_event_without_a_version_has_version_1(name: str) -> None:
    kind = a_class(name, version=2)
    adds(name, 1)
    assert read(name, kind, {"steps": []}).steps == [1]


def test_a_gap_is_refused_when_a_handler_is_registered(name: str) -> None:
    kind = a_class(name, version=4)
    adds(name, 1)
    adds(name, 3)
    bus = OutboxEventBus(InMemoryOutbox())

    async def handle(event: Event) -> None: ...

    for register in (lambda: bus.on(kind, handle), lambda: bus.subscribe(["a", kind], handle)):
        with pytest.raises(ConfigurationError, match=r"no upcaster from version 2\b"):
            register()
    assert bus.event_types() == []
    adds(name, 2)
    bus.on(kind, handle)
    assert bus.event_types() == [name]


def test_upcasters_that_nothing_calls_are_refused(name: str) -> None:
    a_class(name, version=2)
    with pytest.raises(ConfigurationError, match="version=3"):
        adds(name, 2)
    adds(name, 1)
    adds(name, 1)  # a notebook runs its cell again
    with pytest.raises(ConfigurationError, match="already has an upcaster"):
        upcast(name, from_version=1)(dict)


def test_second_upcaster_without_a_name_of_its_own_is_refused(name: str) -> None:
    upcast(name, from_version=1)(lambda payload: payload | {"a": 1})
    with pytest.raises(ConfigurationError, match="already has an upcaster"):
        upcast(name, from_version=1)(lambda payload: payload | {"b": 1})


def test_an_upcaster_that_raises_makes_the_payload_invalid(name: str) -> None:
    kind = a_class(name, version=2)
    adds(name, 1)
    with pytest.raises(InvalidPayloadError, match="upcaster from version 1 raised KeyError") as caught:
        read(name, kind, {})
    assert (caught.value.path, caught.value.payload_class) == ("payload", "Order")


def test_an_upcaster_that_returns_nothing_is_named(name: str) -> None:
    kind = a_class(name, version=2)
    upcast(name, from_version=1)(lambda payload: payload.update(steps=[1]))  # type: ignore[type-var]  # returns None
    with pytest.raises(InvalidPayloadError, match="the upcaster from version 1 returned None; it must return the new"):
        read(name, kind, {})


def test_an_async_upcaster_is_refused(name: str) -> None:
    async def load(payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    with pytest.raises(ConfigurationError, match="load is async; an upcaster must be a function without async"):
        upcast(name, from_version=1)(load)  # type: ignore[type-var]  # async


def test_a_newer_version_is_not_invalid(name: str) -> None:
    with pytest.raises(UnknownVersionError) as caught:
        read(name, a_class(name), {}, 3)
    assert (caught.value.version, caught.value.known) == (3, 1)


@pytest.mark.parametrize("bad", [0, "2", None, True, 1.5])
def test_a_version_that_is_no_number_is_invalid(name: str, bad: Any) -> None:
    kind = a_class(name)
    event = Event(name, {"steps": []}, metadata={"schemaVersion": bad})
    found = event_type_of(kind)
    assert found is not None
    shown = "0" if bad == 0 else r"(a str of length 1|None|a bool|a float)"
    with pytest.raises(InvalidPayloadError, match=rf"metadata\.schemaVersion.*from 1, not {shown};"):
        from_stored(event, found)
