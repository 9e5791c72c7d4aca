"""The last error of an event, as it is stored: `mail: ValueError: no relay; gmail: TimeoutError`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping


def join_errors(errors: Mapping[str, str], *, names: Collection[str]) -> str:
    """Join the errors of handlers to one text, from which `split_errors` finds each again.

    `names` are all handlers of the event. Where an error itself contains `; mail: `, and `mail` is one of them, the
    semicolon becomes a comma.
    """
    return "; ".join(f"{name}: {_without_marks(text, names)}" for name, text in errors.items())


def split_errors(text: str, *, names: Collection[str]) -> dict[str, str]:
    """Find the errors by handler in a stored text. The result is empty if `join_errors` did not make the text.

    A handler's error starts at the beginning or after `; `, with the whole name and `: `. Of `mail` and `mail: smtp`
    the longer name is taken.
    """
    longest_first = sorted(names, key=len, reverse=True)
    mark = re.compile(f"(?:^|; )({'|'.join(map(re.escape, longest_first))}): ")
    _, *found = mark.split(text)
    return dict(zip(found[::2], found[1::2], strict=True))


def _without_marks(text: str, names: Collection[str]) -> str:
    for name in names:
        text = text.replace(f"; {name}: ", f", {name}: ")
    return text
