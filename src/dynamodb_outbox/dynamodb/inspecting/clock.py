"""Compares the clock of this machine with the `Date` of responses, which has whole seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and its response: when it was sent (epoch seconds), how long it took, and its `Date` header."""

    sent: float
    seconds: float
    date: str | None


def skew_of(exchanges: Sequence[Exchange]) -> float | None:
    """Return by how many seconds this clock is ahead, as far as it is proven; None without a date.

    A response of 10:00:07 was made between 10:00:07.0 and 10:00:08.0 of DynamoDB, and between its request and its
    arrival of this clock. So each exchange gives a range of the skew, and all ranges overlap. If they include 0, the
    clocks agree; else the skew is at least the end of the range that is nearer to 0.
    """
    ranges: list[tuple[float, float]] = []
    for each in exchanges:
        try:
            date = parsedate_to_datetime(each.date or "").timestamp()
        except ValueError:
            continue
        ranges.append((each.sent - (date + 1), each.sent + each.seconds - date))
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    if low <= 0 <= high or low > high:
        return 0.0
    return low if low > 0 else high
