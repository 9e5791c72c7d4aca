"""The registry of handlers by event type."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dynamodb_outbox.delivery import Delivery
from dynamodb_outbox.errors import ConfigurationError, DuplicateHandlerError
from dynamodb_outbox.event import Event

Handler = Callable[[Event], Awaitable[None]] | Callable[[Event, Delivery], Awaitable[None]]
"""An async function of the event, or of the event and its delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A handler under its name, which is unique for its type and outlives the process in `handledBy`."""

    handler: Callable[..., Awaitable[None]]
    name: str
    takes_delivery: bool
    once: bool = False


class HandlerRegistry:
    """Handlers by event type, in the order of their registration."""

    def __init__(self) -> None:
        self._by_type: dict[str, tuple[Registration, ...]] = {}

    def add(self, event_type: str, handler: Handler, *, name: str | None = None, once: bool = False) -> int:
        """Register a handler; the number of handlers that the type then has.

        Raises `DuplicateHandlerError`, or `ConfigurationError` for a handler that is not async.
        """
        if not isinstance(event_type, str) or not event_type:
            raise ConfigurationError(f"type={event_type!r}: an event type must be a string that is not empty")
        registration = _registration(handler, name, once=once)
        registered = self._by_type.get(event_type, ())
        if any(other.name == registration.name for other in registered):
            raise DuplicateHandlerError(event_type=event_type, name=registration.name)
        self._by_type[event_type] = (*registered, registration)
        return len(registered) + 1

    def remove(self, event_type: str, handler: Handler) -> bool:
        """Remove a handler; tells whether it was registered."""
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
        return len(registrations) < len(before)

    def clear(self, event_type: str | None = None) -> None:
        """Remove the handlers of a type, or all."""
        if event_type is None:
            self._by_type.clear()
        else:
            self._by_type.pop(event_type, None)

    def of(self, event_type: str) -> tuple[Registration, ...]:
        """List the handlers of a type."""
        return self._by_type.get(event_type, ())


def _registration(handler: Handler, name: str | None, *, once: bool) -> Registration:
    call = handler if inspect.isroutine(handler) else getattr(handler, "func", getattr(handler, "__call__", None))  # noqa: B004 - the method itself is looked at
    if not callable(handler) or not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)):
        raise ConfigurationError(
            f"handler={handler!r}: it must be an async function (async def) of the event; run blocking code in a "
            "thread from inside of one, with anyio.to_thread.run_sync"
        )
    chosen = name if name is not None else _default_name(handler)
    if not isinstance(chosen, str) or not chosen:
        raise ConfigurationError(f"name={name!r}: the name of a handler must be a string that is not empty")
    return Registration(handler=handler, name=chosen, takes_delivery=_takes_delivery(handler), once=once)


def _takes_delivery(handler: Handler) -> bool:
    signature = inspect.signature(handler)
    takes_one, takes_two = _fits(signature, 1), _fits(signature, 2)
    if not takes_one and not takes_two:
        raise ConfigurationError(
            f"handler={handler!r}: it must take one argument (event) or two (event, delivery), not {signature}"
        )
    # A second argument with a default of its own is asked for only when it is called `delivery`.
    second = list(signature.parameters.values())[1:2]
    return takes_two and (not takes_one or any(parameter.name == "delivery" for parameter in second))


def _fits(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _default_name(handler: Handler) -> str:
    # Not the module: it is `__main__` in one process and its real name in another.
    function = getattr(handler, "func", handler)
    name: str = getattr(function, "__qualname__", type(function).__qualname__)
    return name.replace("<locals>.", "")
