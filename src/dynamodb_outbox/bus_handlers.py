"""The methods of a bus that register and remove handlers."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeVar, Unpack, overload

from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event import Event
from dynamodb_outbox.handlers import Handler, HandlerOptions, HandlerRegistry, check_type
from dynamodb_outbox.typed.event_types import EventType, type_name
from dynamodb_outbox.wording import shown

T = TypeVar("T")
H = TypeVar("H", bound=Handler)


class TypedDecorator(Protocol[T]):
    """What `bus.on(Class)` returns: it registers a handler whose event has an instance as its payload."""

    @overload
    def __call__(self, handler: Callable[[Event[T]], Awaitable[None]], /) -> Callable[[Event[T]], Awaitable[None]]: ...
    @overload
    def __call__(
        self, handler: Callable[[Event[T], Delivery], Awaitable[None]], /
    ) -> Callable[[Event[T], Delivery], Awaitable[None]]: ...


class BusHandlers:
    """The methods of a bus for handlers."""

    _registry: HandlerRegistry

    @overload
    def on(self, type: str, handler: None = None, **options: Unpack[HandlerOptions]) -> Callable[[H], H]: ...
    @overload
    def on(self, type: str, handler: H, **options: Unpack[HandlerOptions]) -> H: ...
    @overload
    def on(
        self, type: builtins.type[T] | EventType[T], handler: None = None, **options: Unpack[HandlerOptions]
    ) -> TypedDecorator[T]: ...
    @overload
    def on(
        self,
        type: builtins.type[T] | EventType[T],
        handler: Callable[[Event[T]], Awaitable[None]],
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Event[T]], Awaitable[None]]: ...
    @overload
    def on(
        self,
        type: builtins.type[T] | EventType[T],
        handler: Callable[[Event[T], Delivery], Awaitable[None]],
        **options: Unpack[HandlerOptions],
    ) -> Callable[[Event[T], Delivery], Awaitable[None]]: ...
    def on(
        self,
        type: str | builtins.type | EventType[Any],
        handler: Handler | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Register an async handler of a type, as a decorator or by a call; see `HandlerOptions` for the options.

        For a type by name, the payload of the event is the stored payload. For a class that `event_type` registered, or
        an `EventType`, it is an instance of the class; an event whose payload is not valid becomes FAILED.

        Raises `DuplicateHandlerError` for a second handler of the same name, and `ConfigurationError` for a bad option,
        a handler that is not async, or a class of which some version could not be read.
        """
        check_type(type_name(type))

        def register(handler: Handler) -> Handler:
            self._registry.add([type], handler, **options)
            return handler

        if handler is None:
            return register
        self._registry.add([type], handler, **options)  # not by `register`: the warning of many names the caller's line
        return handler

    @overload
    def on_any(self, handler: None = None, **options: Unpack[HandlerOptions]) -> Callable[[H], H]: ...
    @overload
    def on_any(self, handler: H, **options: Unpack[HandlerOptions]) -> H: ...
    def on_any(self, handler: Handler | None = None, **options: Unpack[HandlerOptions]) -> Any:
        """Register an async handler of the events of every type; see `on`. The payload is the stored payload.

        While it is registered, this bus has a handler for each event of the table, so that no event is released to
        other workers for want of a handler. Its name must be unique among all handlers of the bus.
        """

        def register(handler: Handler) -> Handler:
            self._registry.add_for_all(handler, **options)
            return handler

        if handler is None:
            return register
        self._registry.add_for_all(handler, **options)
        return handler

    def once(
        self, type: str | builtins.type | EventType[Any], handler: Handler, **options: Unpack[HandlerOptions]
    ) -> None:
        """Register a handler that is removed after its first success.

        The handler still runs for events that the worker claimed before that success.
        """
        self._registry.add([type], handler, once=True, **options)

    def subscribe(
        self,
        types: Iterable[str | builtins.type | EventType[Any]],
        handler: Handler,
        **options: Unpack[HandlerOptions],
    ) -> None:
        """Register one handler for several types; see `on`. If one type is refused, nothing is registered."""
        if isinstance(types, (str, builtins.type, EventType)):
            raise ConfigurationError(
                f"types={shown(types)}: it must be a list of types; for one type, use on({shown(types)}, handler)"
            )
        self._registry.add(list(types), handler, **options)

    def off(self, type: str | builtins.type | EventType[Any], handler: Handler) -> bool:
        """Remove a handler; return whether it was registered. Running attempts are not cancelled."""
        return self._registry.remove(type_name(type), handler)

    def off_any(self, handler: Handler) -> bool:
        """Remove a handler of every type; return whether it was registered. See `off`."""
        return self._registry.remove_for_all(handler)

    def remove_all_handlers(self, type: str | builtins.type | EventType[Any] | None = None) -> None:
        """Remove the handlers of a type, or without a type all handlers, of `on_any` too.

        With a type, the handlers of `on_any` stay.
        """
        self._registry.clear(type_name(type))

    def handlers(self, type: str | builtins.type | EventType[Any]) -> list[Handler]:
        """List the handlers of a type, in the order of their registration, then the handlers of `on_any`."""
        return [registration.handler for registration in self._registry.of(type_name(type))]

    def handler_names(self, type: str | builtins.type | EventType[Any]) -> list[str]:
        """List the names of the handlers of a type, as `handled_by` of a stored event has them."""
        return [registration.name for registration in self._registry.of(type_name(type))]

    def event_types(self) -> list[str]:
        """List the types that have handlers of their own, in alphabetical order."""
        return self._registry.types()


def warn_of_many_handlers(type: str, count: int) -> None:
    """Warn of a type that has suspiciously many handlers."""
    warnings.warn(
        f"{count} handlers are registered for {type!r}, more than max_handlers allows; check that no code registers a "
        "handler in a loop, or raise max_handlers",
        stacklevel=4,
    )
