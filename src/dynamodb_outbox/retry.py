"""When a handler that failed is called again, and when it is given up. Pure; times are seconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dynamodb_outbox.outcome import LONGEST_DELAY, Reject, RetryLater
from dynamodb_outbox.validation import check_part, check_seconds
from dynamodb_outbox.wording import shown

Backoff = Callable[[int, BaseException], float | None]
"""Called with the number of the attempt that failed, from 1, and its exception.

It returns the seconds to wait before the next attempt, from 0 to ten years, or None to give up: then the event becomes
FAILED.
"""

_LARGEST_EXPONENT: Final = 60
"""Beyond it every delay is past the cap, and a float would overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialBackoff:
    """Waits `base` seconds after the first failure, twice as long after each further one, and at most `cap` seconds.

    `jitter`, from 0 to 1, varies each delay by that part, up or down: 0.1 by a tenth. So events that failed together do
    not come back together. Raises `ConfigurationError` for a value out of range.
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
        """Tell the seconds to wait after the attempt."""
        delay = min(self.base * 2.0 ** min(attempt - 1, _LARGEST_EXPONENT), self.cap)
        return delay * (1 + self.jitter * (2 * self.random() - 1)) if self.jitter else delay


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """Waits the same `seconds` after every failure. Raises `ConfigurationError` for a value out of range."""

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds, 0, LONGEST_DELAY)

    def __call__(self, attempt: int, error: BaseException) -> float:
        """Tell the seconds to wait after the attempt."""
        return self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a handler is called again, after how long, and after which exceptions not at all."""

    max_retries: int
    backoff: Backoff
    no_retry_on: tuple[type[BaseException], ...] = ()

    def delay(self, attempt: int, error: BaseException) -> float | None:
        """Tell the seconds until the next attempt; None gives up.

        Raises what the backoff raises, and `ValueError` for an answer of its that is no delay.
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
        """Tell whether no retry is of use after the exception, however many are left."""
        if isinstance(error, (Reject, RetryLater)):
            return isinstance(error, Reject)
        if isinstance(error, BaseExceptionGroup) and self.no_retry_on:
            return error.subgroup(self.no_retry_on) is not None
        return isinstance(error, self.no_retry_on)
