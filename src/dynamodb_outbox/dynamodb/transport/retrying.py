"""Repeating a request until a deadline, and the error at the deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from dynamodb_outbox.dynamodb.transport.classify import ErrorKind
from dynamodb_outbox.errors import ThrottledError, UnavailableError

FIRST_DELAY: Final = 0.05
MAX_DELAY: Final = 2.0


class Retries:
    """Counts the attempts of one request and delays the next, for at most `seconds`.

    The delays between them double, with full jitter, so that clients do not repeat their requests in step: at most 0.1,
    0.2, 0.4 s, up to 2 s. See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    __slots__ = ("_random", "attempts", "deadline")

    def __init__(self, seconds: float, *, random: Callable[[], float]) -> None:
        self.deadline = anyio.current_time() + seconds
        self.attempts = 0
        """The number of failed attempts."""
        self._random = random

    @property
    def seconds_left(self) -> float:
        """The time until the deadline."""
        return self.deadline - anyio.current_time()

    def next_delay(self) -> float | None:
        """Count a failed attempt; return the seconds until the next attempt, or None if that is past the deadline."""
        self.attempts += 1
        delay = self._random() * min(MAX_DELAY, FIRST_DELAY * 2.0**self.attempts)
        return delay if delay < self.seconds_left else None

    async def wait(self) -> bool:
        """Count a failed attempt and wait for the next. Return False at once if that is past the deadline."""
        delay = self.next_delay()
        if delay is None:
            return False
        await anyio.sleep(delay)
        return True


def deadline_error(
    operation: str,
    kind: ErrorKind,
    *,
    attempts: int,
    reason: object,
    maybe_applied: bool = False,
    table_name: str | None = None,
) -> ThrottledError | UnavailableError:
    """Build the error of a request that failed until its deadline."""
    text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)
    if kind is ErrorKind.THROTTLED:
        return ThrottledError(operation=operation, attempts=attempts, reason=text, maybe_applied=maybe_applied)
    return UnavailableError(
        operation=operation, attempts=attempts, reason=text, maybe_applied=maybe_applied, table_name=table_name
    )
