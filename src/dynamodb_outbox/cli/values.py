"""The types of options: durations, times and rates, as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import click

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?")


class Duration(click.ParamType[float]):
    """Seconds, written as `90`, `30s`, `5m`, `2h` or `1d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration. Write 90, 30s, 5m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601, in UTC unless it has a zone, or a duration ago such as `30m`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time with its zone."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        if match := _DURATION.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a time. Write 2026-11-24T10:00:00Z, or 30m for 30 minutes ago", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Rate(click.ParamType[float]):
    """Events per second, written as `50`, `50/s` or `600/m`."""

    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the events per second."""
        if isinstance(value, (int, float)):
            return float(value)
        match = _RATE.fullmatch(str(value))
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is not a rate. Write 50, 50/s or 600/m", param, ctx)
        return float(match[1]) / _UNITS[match[2] or "s"]


DURATION: Final = Duration()
MOMENT: Final = Moment()
RATE: Final = Rate()


def decimal(number: float) -> str:
    """Write a number as these types read it, without an exponent."""
    return format(Decimal(repr(float(number))), "f")


def span(seconds: float) -> str:
    """Write a duration with its two largest units: `4 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds:.1f} s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def many(count: object, noun: str) -> str:
    """Write a number with its noun: `1 event`, `2 events`, `1,000+ events`."""
    text = f"{count:,}" if isinstance(count, int) else str(count)
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"


def ago(now: datetime, then: datetime | None) -> str:
    """Write how long ago a time was, or how far ahead it is."""
    if then is None:
        return "-"
    seconds = (now - then).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"
