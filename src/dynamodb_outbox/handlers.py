"""The registry of handlers by event type, and the options that each may have."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import ConfigurationError, DuplicateHandlerError
from dynamodb_outbox.event import Event
from dynamodb_outbox.repairs import MOST_RETRIES
from dynamodb_outbox.retry import Backoff
from dynamodb_outbox.typed.event_types import EventType, event_type_of, type_name
from dynamodb_outbox.validation import check_async, check_int, check_seconds, fits, signature_of
from dynamodb_outbox.wording import shown

Handler = Callable[[Event], Awaitable[None]] | Callable[[Event, Delivery], Awaitable[None]]
"""An async function of the event, or of the event and its delivery.

The handlers of one event run at the same time, and share the event object and its payload. If a handler is an object
with an `async def on_bus_stop(self)`, it is awaited, for five seconds at most, when a bus has stopped that had the
handler, even if it was removed meanwhile.
If its class has `takes_stored_payload = True`, as that of a publisher has, it gets stored payloads, also for a class.
The `default_options` of its class are the `HandlerOptions` that its registration does not give.
"""

LONGEST_TIMEOUT = 7 * 86_400.0
"""A week, in seconds."""
STOP_HOOK = "on_bus_stop"
ALL_TYPES = "*"
"""Stands for every type in the announcements of handlers, and in the calls of `on_max_handlers`."""
MAX_NAME_BYTES = 255
"""The names of handlers that are done are stored with the event, and DynamoDB limits the size of an item."""


class HandlerOptions(TypedDict, total=False):
    """The options of one handler, for `bus.on`, `bus.once` and `bus.subscribe`. An absent option has its default.

    Attributes:
        name: Identifies the handler among the handlers of its type, also after a restart: the name is stored with an
            event when the handler succeeded and another handler failed. A name has 255 bytes at most. The default is
            the function's qualified name.
        max_retries: How many retries follow the first attempt of this handler. The default is the outbox's
            `max_retries`.
        backoff: A function of the attempt (from 1) and the exception. It returns the seconds until the next attempt,
            or None to give up. The default is the outbox's exponential backoff.
        timeout: How long one call of the handler may take. After that the handler is cancelled, and the attempt has
            failed. If the timeout is longer than the lease, the lease is renewed while the handler runs. The default is
            the rest of the lease.
        concurrency: How many calls of the handler this process runs at once. The default is the outbox's
            `concurrency`.
        no_retry_on: Exceptions that a retry cannot fix, such as `(ValueError,)`: the event becomes FAILED at once. The
            default is `()`.
    """

    name: str | None
    max_retries: int | None
    backoff: Backoff | None
    timeout: float | None
    concurrency: int | None
    no_retry_on: tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registration:
    """A handler with its name and options. The name is unique for its type, and is stored in `handledBy`.

    The types of one `subscribe` share one registration, so their calls share its concurrency.
    """

    handler: Callable[..., Awaitable[None]]
    name: str
    takes_delivery: bool
    once: bool = False
    max_retries: int | None = None
    backoff: Backoff | None = None
    timeout: float | None = None
    concurrency: int | None = None
    no_retry_on: tuple[type[BaseException], ...] = ()
    classes: Mapping[str, EventType[Any]] = field(default_factory=dict[str, EventType[Any]])
    """The types whose events the handler gets as instances of a class, by name."""

    def __post_init__(self) -> None:
        if self.max_retries is not None:
            check_int("max_retries", self.max_retries, 0, MOST_RETRIES)
        if self.backoff is not None and not callable(self.backoff):
            raise ConfigurationError(
                f"backoff={shown(self.backoff)}: it must be a function of the attempt and the exception, such as "
                "FixedBackoff(5)"
            )
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, 0.001, LONGEST_TIMEOUT)
        if self.concurrency is not None:
            check_int("concurrency", self.concurrency, 1, 10_000)
        if not isinstance(self.no_retry_on, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in self.no_retry_on
        ):
            raise ConfigurationError(f"no_retry_on={shown(self.no_retry_on)}: it must be a tuple of exception types")


class HandlerRegistry:
    """Handlers by event type, in the order of their registration."""

    def __init__(self, *, max_handlers: int, on_max_handlers: Callable[[str, int], None]) -> None:
        check_int("max_handlers", max_handlers, 1, 100_000)
        self._max_handlers = max_handlers
        self._on_max_handlers = on_max_handlers
        self._by_type: dict[str, tuple[Registration, ...]] = {}
        self._of_all: tuple[Registration, ...] = ()
        self._merged: dict[str, tuple[Registration, ...]] = {}
        self._told_of_stop: dict[int, object] = {}
        self.revision = 0
        """Counts the changes."""

    def add(
        self,
        event_types: Sequence[str | type | EventType[Any]],
        handler: Handler,
        *,
        once: bool = False,
        **options: Unpack[HandlerOptions],
    ) -> None:
        """Register a handler for types, by name or by class, which share its concurrency.

        If one type is refused, nothing is registered.

        Calls `on_max_handlers` if a type now has more than `max_handlers`. Raises `DuplicateHandlerError`, or
        `ConfigurationError` for a handler that is not async or for an invalid type.
        """
        classes = {known.name: known for each in event_types if (known := event_type_of(each)) is not None}
        for known in classes.values():
            known.check_readable()
        if getattr(type(handler), "takes_stored_payload", False):
            classes = {}
        registration = replace(_registration(handler, options, once=once), classes=classes)
        added: dict[str, tuple[Registration, ...]] = {}
        for event_type in map(type_name, event_types):
            check_type(event_type)
            registered = added.get(event_type) or self._by_type.get(event_type, ())
            if any(other.name == registration.name for other in (*registered, *self._of_all)):
                raise DuplicateHandlerError(event_type=event_type, name=registration.name)
            added[event_type] = (*registered, registration)
        self._by_type.update(added)
        self._added(handler)
        for event_type, registered in added.items():
            if len(registered) > self._max_handlers:
                self._on_max_handlers(event_type, len(registered))

    def add_for_all(self, handler: Handler, **options: Unpack[HandlerOptions]) -> None:
        """Register a handler for the events of every type. Raises the errors of `add`."""
        registration = _registration(handler, options, once=False)
        for event_type, registered in [*self._by_type.items(), (ALL_TYPES, self._of_all)]:
            if any(other.name == registration.name for other in registered):
                raise DuplicateHandlerError(event_type=event_type, name=registration.name)
        self._of_all = (*self._of_all, registration)
        self._added(handler)
        if len(self._of_all) > self._max_handlers:
            self._on_max_handlers(ALL_TYPES, len(self._of_all))

    def remove_for_all(self, handler: Handler) -> bool:
        """Remove a handler of every type; return whether it was registered."""
        before = len(self._of_all)
        self._of_all = tuple(other for other in self._of_all if other.handler != handler)
        self._changed()
        return len(self._of_all) < before

    def remove(self, event_type: str, handler: Handler) -> bool:
        """Remove a handler; return whether it was registered."""
        registered = self._by_type.get(event_type, ())
        return self._keep(event_type, tuple(other for other in registered if other.handler != handler))

    def remove_registration(self, event_type: str, registration: Registration) -> None:
        """Remove one registration, by its identity."""
        registered = self._by_type.get(event_type, ())
        self._keep(event_type, tuple(other for other in registered if other is not registration))

    def _keep(self, event_type: str, registrations: tuple[Registration, ...]) -> bool:
        before = self._by_type.pop(event_type, ())
        if registrations:
            self._by_type[event_type] = registrations
        self._changed()
        return len(registrations) < len(before)

    def clear(self, event_type: str | None = None) -> None:
        """Remove the handlers of a type, or all handlers."""
        if event_type is None:
            self._by_type.clear()
            self._of_all = ()
        else:
            self._by_type.pop(event_type, None)
        self._changed()

    def of(self, event_type: str) -> tuple[Registration, ...]:
        """List the handlers of a type: its own, then the handlers of every type."""
        own = self._by_type.get(event_type, ())
        if not self._of_all or not own:
            return own or self._of_all
        # Kept, because callers compare the handlers of a type by identity.
        return self._merged.setdefault(event_type, (*own, *self._of_all))

    def _added(self, handler: Handler) -> None:
        if hasattr(type(handler), STOP_HOOK):  # of the class, because a mock has every attribute
            self._told_of_stop[id(handler)] = handler
        self._changed()

    def _changed(self) -> None:
        self._merged.clear()
        self.revision += 1

    def types(self) -> list[str]:
        """List the types that have handlers, in alphabetical order."""
        return sorted(self._by_type)

    def told_of_stop(self) -> list[Any]:
        """List the handlers with `on_bus_stop`. A handler that was removed is in the list once more."""
        told = self._told_of_stop
        kept = {id(each.handler) for registered in (*self._by_type.values(), self._of_all) for each in registered}
        self._told_of_stop = {key: handler for key, handler in told.items() if key in kept}
        return list(told.values())

    def names(self) -> dict[str, tuple[str, ...]]:
        """List the names of the handlers by type, without `once` handlers, which are removed after one event."""
        named = {
            event_type: tuple(each.name for each in handlers if not each.once)
            for event_type, handlers in [*self._by_type.items(), (ALL_TYPES, self._of_all)]
        }
        return {event_type: names for event_type, names in named.items() if names}

    def most_retries(self, default: int) -> int:
        """Return the largest `max_retries` of all handlers; handlers without that option have the `default`."""
        declared = [each.max_retries for handlers in (*self._by_type.values(), self._of_all) for each in handlers]
        return max([default, *(retries for retries in declared if retries is not None)])


def check_type(event_type: object) -> None:
    """Raise `ConfigurationError` for a value that is not an event type: `@bus.on` without a type passes a function."""
    if not isinstance(event_type, str) or not event_type:
        raise ConfigurationError(
            f'type={shown(event_type)}: an event type must be a string that is not empty, as in @bus.on("order.placed")'
        )
    if event_type == ALL_TYPES:
        raise ConfigurationError(
            "type='*': a pattern cannot be a type; for the events of every type, use bus.on_any(handler), and for some "
            "types bus.subscribe(['user.created', 'user.deleted'], handler)"
        )


def _registration(handler: Handler, options: HandlerOptions, *, once: bool) -> Registration:
    if isinstance(handler, type):
        raise ConfigurationError(
            f"handler={shown(handler)}: it is a class; pass an instance of it, such as {handler.__name__}(...)"
        )
    check_async(handler)
    given: dict[str, Any] = {**getattr(type(handler), "default_options", {}), **options}
    name = given.pop("name", None)
    if name is None:
        name = _default_name(handler)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"name={shown(name)}: the name of a handler must be a string that is not empty")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise ConfigurationError(
            f"name={name[:40]!r}…: the name of a handler may have {MAX_NAME_BYTES} bytes in UTF-8, and this name has "
            f"{len(name.encode(errors='replace'))}; pass a shorter name="
        )
    unknown = given.keys() - HandlerOptions.__annotations__.keys()
    if unknown:
        accepted = ", ".join(HandlerOptions.__annotations__)
        raise ConfigurationError(f"{min(unknown)!r} is not an option of a handler; the options are: {accepted}")
    return Registration(handler=handler, name=name, takes_delivery=_takes_delivery(handler), once=once, **given)


def _takes_delivery(handler: Handler) -> bool:
    signature = signature_of(handler)
    takes_one, takes_two = fits(handler, 1), fits(handler, 2)
    if not takes_one and not takes_two:
        raise ConfigurationError(
            f"handler={shown(handler)}: it must take one argument (event) or two (event, delivery), not {signature}"
        )
    if inspect.isfunction(handler) and next(iter(signature.parameters), "") == "self":
        raise ConfigurationError(
            f"handler={handler.__qualname__}: its first parameter is `self`, so it is a method without an object; "
            f'register the bound method: bus.on("order.placed", obj.{handler.__name__})'
        )
    # A second argument that has a default gets the delivery only if its name is `delivery`.
    second = list(signature.parameters.values())[1:2]
    return takes_two and (not takes_one or any(parameter.name == "delivery" for parameter in second))


def _default_name(handler: Handler) -> str:
    # Without the module, whose name is `__main__` in one process and `billing.handlers` in another.
    function = getattr(handler, "func", handler)
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.replace("<locals>.", "")
