"""The waits between polls. Pure functions; times are seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST_POLLING_BACKOFF: Final = 30.0
JITTER: Final = 0.1


def polling_delay(errors: int, *, interval: float) -> float:
    """Return the wait after polling errors in a row: 2, 4, 8, ... 30 s for an interval of 1 s."""
    # 2 ** 60 exceeds every limit. A larger exponent would overflow a float, and a worker may fail that often.
    return float(min(interval * 2 ** min(errors, 60), LONGEST_POLLING_BACKOFF))


def idle_delay(polls: int, *, interval: float, longest: float | None) -> float:
    """Return the wait after polls in a row that found nothing: 1, 2, 4, ... `longest` for an interval of 1 s.

    Without a `longest`, it is always the interval.
    """
    return interval if longest is None else float(min(interval * 2 ** min(polls - 1, 60), longest))


def jittered(interval: float, random: Callable[[], float]) -> float:
    """Vary an interval by up to a tenth, so that workers do not poll at the same moments."""
    return interval * (1 + JITTER * (2 * random() - 1))
