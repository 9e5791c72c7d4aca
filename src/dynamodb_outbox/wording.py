"""Writes values and exceptions into messages: in a few words, and without confidential data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LONGEST_SHOWN: Final = 200
"""How many characters of a value a message shows."""


MAX_DESCRIBED: Final = 3
"""How many exceptions of a group a message names."""


def shown(value: object) -> str:
    """Write a value for a message. A long text is cut; a value whose `repr` fails is shown as its type."""
    try:
        text = repr(value)
    except Exception:  # a broken `__repr__` in the user's class, or an integer of thousands of digits
        return f"({type(value).__name__})"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def shape(value: object) -> str:
    """Describe a value that may be confidential, such as a payload, by its type and size: "a dict with 3 keys"."""
    if value is None:
        return "None"
    kind = type(value).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    if isinstance(value, Mapping):
        count = len(value)
        return f"{article} {kind} with {count:,} {'key' if count == 1 else 'keys'}"
    if isinstance(value, (str, bytes, bytearray)):
        return f"{article} {kind} of length {len(value):,}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{article} {kind} of {len(value):,}"
    return f"{article} {kind}"


def times(count: int) -> str:
    """Write how often something happened: "once", "3 times"."""
    return "once" if count == 1 else f"{count:,} times"


def describe(error: BaseException) -> str:
    """Write an exception as its type and its text; say so if the exception cannot be written as text.

    The text of a group, such as that of a task group, has the exceptions in it.
    """
    try:
        members = error.exceptions[:MAX_DESCRIBED] if isinstance(error, BaseExceptionGroup) else ()
        return ": ".join([type(error).__name__, str(error), *(["; ".join(map(describe, members))] if members else [])])
    except Exception:  # the `__str__` of the user's class may be broken
        return f"{type(error).__name__} (it cannot be written as text)"
