"""Upcasters: they turn the stored payload of an old version into the next version."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.wording import shown

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
U = TypeVar("U", bound=Upcaster)

_UPCASTERS: Final[dict[str, dict[int, Upcaster]]] = {}
"""By the name of the event type, and the version that the upcaster reads."""
_KNOWN_VERSIONS: Final[dict[str, int]] = {}
"""The highest version of each name for which a class is registered."""


def upcast(name: str, *, from_version: int) -> Callable[[U], U]:
    """Register a function that turns a stored payload of `from_version` into one of the next version.

    Upcasters are chained: an event of version 1 passes `from_version=1`, then `from_version=2`, and so on up to the
    version of the class. Each gets a copy of the stored payload, and returns the new one. The stored event is not
    changed, and handlers that are registered by name get the payload as it is stored.

    Raises `ConfigurationError` for a second upcaster of the same version, for an async function, and for a version that
    the class of the name has or has not reached. `bus.on(Class)` raises it if a version has no upcaster.
    """
    if not isinstance(from_version, int) or isinstance(from_version, bool) or from_version < 1:
        raise ConfigurationError(f"from_version={shown(from_version)}: it must be a whole number from 1")
    if name in _KNOWN_VERSIONS and from_version >= _KNOWN_VERSIONS[name]:
        raise ConfigurationError(
            f"from_version={from_version}: event type {name!r} has version {_KNOWN_VERSIONS[name]}, so that nothing is "
            f"left to be changed; raise the version of the class: @event_type({name!r}, version={from_version + 1})"
        )

    def register(upcaster: U) -> U:
        if iscoroutinefunction(upcaster):
            raise ConfigurationError(f"{_name_of(upcaster)} is async; an upcaster must be a function without async")
        known = _UPCASTERS.setdefault(name, {})
        other = known.get(from_version)
        if other is not None and not _is_same(other, upcaster):
            raise ConfigurationError(
                f"event type {name!r} already has an upcaster from version {from_version}: {_name_of(other)}"
            )
        known[from_version] = upcaster
        return upcaster

    return register


def note_version(name: str, version: int) -> None:
    """Note the version of a class, so that `upcast` can refuse versions that do not exist."""
    _KNOWN_VERSIONS[name] = max(version, _KNOWN_VERSIONS.get(name, 0))


def upcasters_of(name: str, version: int, current: int) -> list[Upcaster]:
    """List the upcasters from a version to the current one. Raises `ConfigurationError` if one is missing."""
    known = _UPCASTERS.get(name, {})
    missing = [each for each in range(version, current) if each not in known]
    if missing:
        raise ConfigurationError(
            f"event type {name!r} has version {current}, but no upcaster from version "
            f"{', '.join(map(str, missing))}, so that stored events could not be read; write one: "
            f"@upcast({name!r}, from_version={missing[0]})"
        )
    return [known[each] for each in range(version, current)]


def _is_same(function: Any, other: Any) -> bool:
    """Tell whether a function is another one that its module, which was loaded again, has defined once more."""
    if _name_of(function) != _name_of(other):
        return False
    # Many functions have these names.
    return not _name_of(other).endswith(("._", "<lambda>")) or _code_of(function) == _code_of(other)


def _code_of(function: Any) -> tuple[Any, ...]:
    """Return what a function does, wherever it stands."""
    code = getattr(function, "__code__", None)
    return () if code is None else (code.co_code, code.co_consts, code.co_names)


def _name_of(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
