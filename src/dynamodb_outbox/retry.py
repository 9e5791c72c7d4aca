"""Decides when a failed handler is called again, and when it has no retry left. Times are seconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dynamodb_outbox.errors import InvalidPayloadError
from dynamodb_outbox.outcome import LONGEST_DELAY, Reject, RetryLater
from dynamodb_outbox.validation import check_part, check_seconds
from dynamodb_outbox.wording import shown

Backoff = Callable[[int, BaseException], float | None]
"""Called with the number of the attempt that failed, from 1, and its exception.

It returns the seconds to wait before the next attempt, from 0 to ten years, or None to make the event FAILED without
another attempt.
"""

_LARGEST_EXPONENT: Final = 60
"""A larger exponent would overflow a float, and the delay is longer than any cap already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialBackoff:
    """Waits `base` seconds after the first failure, twice as long after each further one, and at most `cap` seconds.

    `jitter`, from 0 to 1, varies each delay up or down by that part: 0.1 makes 9 to 11 seconds of 10. It spreads the
    retries of events that failed at the same time. Raises `ConfigurationError` for a value out of range.
    """

    base: float = 1.0
    cap: float = 3600.0
    jitter: float = 0.0
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_seconds("base", self.base, 0, 86_400)
        check_seconds("cap", self.cap, 0, LONGEST_DELAY)
        check_part("jitter", self.jitter)

    def __call__(self, attempt: int, error: BaseException) -> float:
        """Return the seconds to wait after the attempt."""
        delay = min(self.base * 2.0 ** min(attempt - 1, _LARGEST_EXPONENT), self.cap)
        return delay * (1 + self.jitter * (2 * self.random() - 1)) if self.jitter else delay


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """Waits the same `seconds` after every failure. Raises `ConfigurationError` for a value out of range."""

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds, 0, LONGEST_DELAY)

    def __call__(self, attempt: int, error: BaseException) -> float:
        """Return the seconds to wait after the attempt."""
        return self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The retries of one handler: how many, after which delay, and after which exceptions none."""

    max_retries: int
    backoff: Backoff
    no_retry_on: tuple[type[BaseException], ...] = ()

    def delay(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds until the next attempt, or None for no further attempt.

        Raises the exceptions of the backoff, and `ValueError` if the backoff returns a value that is not a delay.
        """
        if attempt > self.max_retries or self.is_final(error):
            return None
        if isinstance(error, RetryLater):
            return error.delay
        delay = self.backoff(attempt, error)
        if delay is None:
            return None
        if not isinstance(delay, (int, float)) or math.isnan(delay) or not 0 <= delay <= LONGEST_DELAY:
            raise ValueError(
                f"a backoff must return seconds from 0 to {LONGEST_DELAY:,.0f} or None, not {shown(delay)}"
            )
        return float(delay)

    def is_final(self, error: BaseException) -> bool:
        """Tell whether the exception allows no retry, even if retries are left."""
        if isinstance(error, (Reject, RetryLater, InvalidPayloadError)):
            return not isinstance(error, RetryLater)
        if isinstance(error, BaseExceptionGroup) and self.no_retry_on:
            return error.subgroup(self.no_retry_on) is not None
        return isinstance(error, self.no_retry_on)
