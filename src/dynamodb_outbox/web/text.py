"""Writes times, durations and hostile text for pages, and packs ids into the fields of forms."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from dynamodb_outbox.web.http import BadRequestError

_WITH_TENTHS: Final = 10
_UNITS: Final = 2
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that do not show, or that change how the characters next to them show."""


def revealed(value: object) -> str:
    """Write text on one line, with every invisible character as an escape, so that two ids never look the same."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _INVISIBLE else char for char in text)


def revealed_lines(value: object) -> str:
    """Write text as `revealed` does, with its line breaks and tabs."""
    return "\n".join("\t".join(map(revealed, line.split("\t"))) for line in str(value).split("\n"))


def _escape(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\u{{{ord(char):x}}}")


def packed(*texts: str | None) -> str:
    """Pack texts into one field of a form or query. Browsers change line breaks and NUL in fields that are not packed.

    None is packed as a single `-`.
    """
    return "&".join("-" if text is None else f"={quote(text, safe='')}" for text in texts)


def unpacked(field: str, count: int) -> list[str | None]:
    """Unpack the texts of a field. Raises `BadRequestError` unless there are `count` of them."""
    parts = field.split("&")
    if len(parts) != count or any(part != "-" and not part.startswith("=") for part in parts):
        raise BadRequestError("a field of the request cannot be read; go back, reload the page, and try again")
    try:
        return [None if part == "-" else unquote(part[1:], errors="strict") for part in parts]
    except UnicodeDecodeError as error:
        raise BadRequestError("a field of the request is not valid UTF-8") from error


def packed_time(time: datetime) -> str:
    """Write a time so that `unpacked_time` reads the same time, to the microsecond."""
    return time.astimezone(UTC).isoformat()


def unpacked_time(field: str) -> datetime:
    """Read a time with a time zone. Raises `BadRequestError` for anything else."""
    try:
        time = datetime.fromisoformat(field)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadRequestError(f"{field[:50]!r} is not a time with a time zone")
    return time


def moment(time: datetime | None) -> str:
    """Write a time to the second, in UTC."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """Write a duration with its two largest units: "3 min 20 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds > 0 else "0 s"
    if seconds < _WITH_TENTHS:
        return f"{seconds:.1f} s"
    rest, parts = round(seconds), list[str]()
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, rest = divmod(rest, length)
        if amount or parts:
            parts.append(f"{amount:,} {name}")
        if len(parts) == _UNITS:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def away(time: datetime | None, now: datetime) -> str:
    """Write how far away a time is: "3 min 20 s ago", "in 5 s", "now"."""
    if time is None:
        return ""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def first_line(text: str, longest: int = 160) -> str:
    """Write the first line of a text, cut if it is long."""
    line = text.partition("\n")[0]
    return line if len(line) <= longest else f"{line[:longest]}…"


def number(value: Any) -> str:
    """Write a whole number with separators, and any other number with up to one digit after the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")
