"""How long to wait. Pure functions; times are seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST_POLLING_BACKOFF: Final = 30.0
JITTER: Final = 0.1


def polling_delay(errors: int, *, interval: float) -> float:
    """Wait after so many polling errors in a row: the interval, doubled for each, at most 30 s."""
    # Beyond 2 ** 60 every interval is past the limit; a float would overflow long before a worker gives up.
    return float(min(interval * 2 ** min(errors, 60), LONGEST_POLLING_BACKOFF))


def idle_delay(looks: int, *, interval: float, longest: float | None) -> float:
    """Wait after so many looks in a row that found nothing: the interval, doubled for each but the first."""
    return interval if longest is None else float(min(interval * 2 ** min(looks - 1, 60), longest))


def jittered(interval: float, random: Callable[[], float]) -> float:
    """Vary an interval by a tenth up or down, so that workers do not march in step."""
    return interval * (1 + JITTER * (2 * random() - 1))
