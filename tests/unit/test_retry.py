from __future__ import annotations

import math
from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, ExponentialBackoff, FixedBackoff, Reject, RetryLater
from dynamodb_outbox.retry import RetryPolicy

ERROR = RuntimeError("x")


def test_exponential_backoff_doubles_up_to_its_cap() -> None:
    assert [ExponentialBackoff()(n, ERROR) for n in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [ExponentialBackoff(base=0.5)(n, ERROR) for n in (1, 3)] == [0.5, 2]
    assert [ExponentialBackoff(base=10, cap=35)(n, ERROR) for n in (2, 3, 1000)] == [20, 35, 35]


@pytest.mark.parametrize(("random", "expected"), [(0.0, 1.5), (0.5, 2.0), (1.0, 2.5)])
def test_jitter_varies_the_delay_by_its_part(random: float, expected: float) -> None:
    assert ExponentialBackoff(base=2, jitter=0.25, random=lambda: random)(1, ERROR) == expected


def test_fixed_backoff_waits_as_long_each_time() -> None:
    assert [FixedBackoff(7)(n, ERROR) for n in (1, 2, 99)] == [7, 7, 7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedBackoff(-1), "seconds=-1: it must be a number of seconds from 0"),
        (lambda: ExponentialBackoff(jitter=2), "jitter=2: it must be a number from 0 to 1"),
        (lambda: ExponentialBackoff(cap=math.nan), "cap=nan"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def policy(**options: Any) -> RetryPolicy:
    return RetryPolicy(**{"max_retries": 3, "backoff": FixedBackoff(5)} | options)


def test_policy_gives_up_after_its_retries_at_a_rejection_and_at_no_retry_on() -> None:
    assert [policy().delay(attempt, ERROR) for attempt in (1, 3, 4)] == [5, 5, None]
    assert policy().delay(1, Reject("no use")) is None
    assert policy(no_retry_on=(KeyError, ValueError)).delay(1, ValueError()) is None
    assert policy(no_retry_on=(ValueError,)).delay(1, ExceptionGroup("g", [KeyError(), ValueError()])) is None
    assert policy(no_retry_on=(ValueError,)).delay(1, ExceptionGroup("g", [KeyError()])) == 5
    assert policy(no_retry_on=(Exception,)).delay(1, RetryLater(7)) == 7
    assert policy(backoff=lambda attempt, error: None).delay(1, ERROR) is None


def test_a_delay_that_the_handler_asks_for_wins_while_retries_are_left() -> None:
    assert policy().delay(3, RetryLater(60)) == 60
    assert policy().delay(4, RetryLater(60)) is None


@pytest.mark.parametrize("answer", [-1, math.nan, math.inf, "5", 1e12])
def test_delay_that_is_not_a_number_of_seconds_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="a backoff must return seconds"):
        policy(backoff=lambda attempt, error: answer).delay(1, ERROR)
