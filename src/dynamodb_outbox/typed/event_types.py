"""`EventType` and `@event_type`: the name and the version under which instances of a class are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.typed.kinds import check_payload_class, class_name
from dynamodb_outbox.typed.upcasting import Upcaster, note_version, upcasters_of
from dynamodb_outbox.wording import shown

T = TypeVar("T")
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class EventType(Generic[T]):
    """The name of events, and the class of their payloads.

    Use it where `@event_type` cannot be written: for a class that is not yours, a `TypedDict`, or `dict[str, Any]`.
    `bus.emit(order_placed, payload)` emits an event; `bus.on(order_placed)` registers a handler, whose `event.payload`
    has the class. `version` is the version of the stored payload, from 1; see `upcast`.

    Raises `ConfigurationError` for a name that is empty, a class that is not supported, or a version below 1.
    """

    name: str
    payload_class: type[T] = field(repr=False)
    version: int = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.version, int) or isinstance(self.version, bool) or self.version < 1:
            raise ConfigurationError(f"version={shown(self.version)}: it must be a whole number from 1")
        check_payload_class(self.payload_class)
        note_version(self.name, self.version)

    @cached_property
    def read(self) -> Callable[[Any], Any]:
        """The function that turns a stored payload into an instance; see `payload_reader`."""
        from dynamodb_outbox.typed.models import payload_reader  # noqa: PLC0415 - programs without classes do not pay

        return payload_reader(self.payload_class)

    def check_readable(self) -> None:
        """Raise `ConfigurationError` unless every version can be read: all upcasters are registered."""
        self.upcasters_from(1)
        _ = self.read

    def upcasters_from(self, version: int) -> list[Upcaster]:
        """List the upcasters that turn a stored payload of this version into one of the current version."""
        return upcasters_of(self.name, version, self.version)


TypeOrClass = str | type[Any] | EventType[Any]
"""A type of events: its name, the class that `event_type` registered, or an `EventType`."""
_BY_CLASS: Final[dict[type, EventType[Any]]] = {}
_BY_NAME: Final[dict[str, EventType[Any]]] = {}
"""The classes of `@event_type`. They belong to the process as the classes do."""


def event_type(name: str, *, version: int = 1) -> Callable[[C], C]:
    """Register a class under the name of its events; the class itself is not changed.

    The class is a pydantic model, a dataclass, a msgspec Struct or an attrs class. `bus.emit(instance)` stores an
    instance under the name, and `bus.on(Class)` registers a handler that gets instances. The name is stored, never the
    path of the class, so that the class may be moved and renamed. A subclass needs its own registration.

    Raise `version` when the stored payload changes in a way that the class cannot read, and write an `upcast`. Raises
    `ConfigurationError` for a class that is not supported, for a second class of the same name, and for a second name
    of the same class.
    """
    _check_name(name)  # at once: `@event_type` without a name would put a function in place of the class

    def register(payload_class: C) -> C:
        registered: EventType[Any] = EventType(name, payload_class, version)
        earlier = _BY_CLASS.get(payload_class)
        if earlier is not None and earlier.name != name:
            raise ConfigurationError(
                f"{class_name(payload_class)} is registered as {earlier.name!r} already, so it cannot be registered as "
                f"{name!r}; to emit and handle it under another name, use EventType({name!r}, {payload_class.__name__})"
            )
        other = _BY_NAME.get(name)
        if other is not None and not _is_reloaded(other.payload_class, payload_class):
            raise ConfigurationError(
                f"event type {name!r} is registered for {class_name(other.payload_class)} already, so it cannot be "
                f"registered for {class_name(payload_class)}; choose another name, or read the same events with "
                f"another class by EventType({name!r}, {payload_class.__name__})"
            )
        _BY_NAME[name] = _BY_CLASS[payload_class] = registered
        return payload_class

    return register


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or name == "*":
        raise ConfigurationError(
            f"name={shown(name)}: the name of an event type must be a string that is not empty, as in "
            '@event_type("order.placed")'
        )


def _is_reloaded(old: type, new: type) -> bool:
    """Tell whether a class takes the place of another: its module, or a cell of a notebook, has run again."""
    return old is new or (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def registered_type(payload_class: object) -> EventType[Any] | None:
    """Find the event type of a class that `@event_type` registered, not of its bases."""
    return _BY_CLASS.get(payload_class) if isinstance(payload_class, type) else None


def event_type_of(type_or_class: object) -> EventType[Any] | None:
    """Find the event type that a class or an `EventType` stands for; None for anything else, such as a name.

    Raises `ConfigurationError` for a class that is not registered.
    """
    if isinstance(type_or_class, EventType):
        return type_or_class
    if not isinstance(type_or_class, type):
        return None
    registered = _BY_CLASS.get(type_or_class)
    if registered is None:
        raise ConfigurationError(
            f"type={shown(type_or_class)}: {class_name(type_or_class)} is not registered as an event type; decorate it "
            'with @event_type("order.placed"), or pass an EventType'
        )
    return registered


def type_name(type_or_class: Any) -> Any:
    """Return the name of the type that a class or an `EventType` stands for; anything else is returned as it is."""
    found = event_type_of(type_or_class)
    return type_or_class if found is None else found.name


def selected_type(type_or_class: object) -> str | None:
    """Return the name of the type that a name, a class or an `EventType` stands for; None stands for all types.

    Raises `ConfigurationError` for anything else.
    """
    name = type_name(type_or_class)
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(
            f"type={shown(name)}: it must be the name of an event type, such as 'order.placed', or its class, or None "
            "for all types"
        )
    return name
