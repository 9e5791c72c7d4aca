"""Checks of the arguments that users pass, with the same wording for all parameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.event import MAX_ID_BYTES, MAX_ORDERING_KEY_BYTES, Event, FailedEvent
from dynamodb_outbox.outcome import LONGEST_DELAY
from dynamodb_outbox.wording import shape, shown

_YEAR = 31_536_000


def is_async(value: object) -> bool:
    """Tell whether a call of the value makes a coroutine: async functions and methods, partials, async objects."""
    while isinstance(value, partial):
        value = value.func
    if isinstance(value, type):
        return False  # a call makes an instance, which may be async, but not a coroutine
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004 - the method itself is looked at


def check_async(handler: Any) -> None:
    """Raise `ConfigurationError` unless a handler is async."""
    if is_async(handler):
        return
    if is_async(inspect.unwrap(handler)):
        raise ConfigurationError(
            f"handler={shown(handler)}: its decorator makes it a function that is not async; the wrapper in the "
            "decorator must be `async def`, and await the handler"
        )
    raise ConfigurationError(
        f"handler={shown(handler)}: it must be an async function (async def) of the event; to run blocking code, "
        "await anyio.to_thread.run_sync(...) in the handler"
    )


def signature_of(function: Any) -> inspect.Signature:
    """Return the signature that a call has to fit.

    A decorator that takes any arguments passes them on to the function that it wraps; any other decorator says by
    itself what it takes.
    """
    own = inspect.signature(function, follow_wrapped=False)
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in own.parameters.values())
    return inspect.signature(function) if takes_any else own


def fits(function: Any, count: int) -> bool:
    """Tell whether a function can be called with `count` positional arguments."""
    try:
        signature_of(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def check_callable(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value can be called."""
    if not callable(value):
        raise ConfigurationError(f"{name}={shown(value)}: it must be a function")


def check_int(name: str, value: object, low: int, high: int) -> None:
    """Raise `ConfigurationError` unless the value is an int from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"{name}={shown(value)}: it must be a whole number from {low:,} to {high:,}")


def check_seconds(name: str, value: object, low: float, high: float, *, low_is: str = "") -> None:
    """Raise `ConfigurationError` unless the value is a number of seconds from `low` to `high`.

    `low_is` names the option that `low` comes from.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        lowest = f"{_seconds(low)} (the {low_is})" if low_is else _seconds(low)
        raise ConfigurationError(
            f"{name}={shown(value)}: it must be a number of seconds from {lowest} to {_seconds(high)}"
        )


def _seconds(limit: float) -> str:
    """Write a limit with all its digits; whole years are added: "315,360,000 (10 years)"."""
    digits = f"{limit:,.6f}".rstrip("0").rstrip(".")
    years, rest = divmod(limit, _YEAR)
    if rest or not years:
        return digits
    return f"{digits} ({years:.0f} {'year' if years == 1 else 'years'})"


def check_part(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is a number from 0 to 1."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ConfigurationError(f"{name}={shown(value)}: it must be a number from 0 to 1")


def check_timeout(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is None or a number of seconds, not negative."""
    if value is not None:
        check_seconds(name, value, 0, LONGEST_DELAY)


def check_bool(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={shown(value)}: it must be True or False")


def check_outbox(value: object) -> None:
    """Check that a value is an outbox, and not the result of `DynamoDBOutbox.connect(...)` or a class."""
    if isinstance(value, AbstractAsyncContextManager) and not hasattr(value, "options"):
        raise ConfigurationError(
            f"outbox={shown(value)}: it is not entered yet; use `async with DynamoDBOutbox.connect(...) as outbox`, "
            "and make the bus inside the block"
        )
    if isinstance(value, type) or not all(hasattr(value, name) for name in ("options", "publish", "claim", "settle")):
        raise ConfigurationError(
            f"outbox={shown(value)}: it must be an outbox, such as a DynamoDBOutbox or an InMemoryOutbox"
        )


def check_event_id(event_id: object) -> str:
    """Return the id. Raises `ConfigurationError` unless it is a string."""
    if not isinstance(event_id, str):
        raise ConfigurationError(f"id must be the id of an event, such as event.id, not {shape(event_id)}")
    return event_id


def check_ordering_key(key: object) -> str:
    """Return the ordering key. Raises `ConfigurationError` for one that no event can have."""
    if not isinstance(key, str) or not key:
        found = shown(key) if key == "" else shape(key)
        raise ConfigurationError(f"ordering_key must be a key of events, such as event.ordering_key, not {found}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"ordering_key={shown(key)}: it is not valid Unicode text") from None
    if size > MAX_ORDERING_KEY_BYTES:
        raise ConfigurationError(f"ordering_key={shown(key)}: a key has {MAX_ORDERING_KEY_BYTES:,} bytes at most")
    return key


def check_event_ids(ids: object) -> list[str]:
    """Return the ids as a list. Raises `ConfigurationError` for a single id, and for an id that is not a string."""
    if isinstance(ids, str):
        raise ConfigurationError(f"ids={shown(ids)}: it must be a list of ids, such as [{shown(ids)}]")
    if not isinstance(ids, Iterable):
        raise ConfigurationError(f"ids must be a list of ids, such as [event.id], not {shape(ids)}")
    checked: list[str] = []
    for event_id in ids:
        if isinstance(event_id, (Event, FailedEvent)):
            raise ConfigurationError(
                f"ids must be the ids of events, not {type(event_id).__name__} objects; pass "
                "[event.id for event in failed]"
            )
        if not isinstance(event_id, str):
            raise ConfigurationError(f"the ids of events are strings, not {shape(event_id)}, such as [event.id]")
        if not event_id or len(event_id.encode(errors="replace")) > MAX_ID_BYTES:
            raise ConfigurationError(f"no event can have the id {shown(event_id)}: it has 1 to {MAX_ID_BYTES:,} bytes")
        checked.append(event_id)
    return checked
