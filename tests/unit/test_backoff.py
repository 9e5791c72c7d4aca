from __future__ import annotations

import pytest

from dynamodb_outbox.worker.backoff import jittered, polling_delay, retry_delay


def test_retries_wait_twice_as_long_each_time() -> None:
    assert [retry_delay(n, base=1.0) for n in range(1, 6)] == [1, 2, 4, 8, 16]
    assert [retry_delay(n, base=0.5) for n in (1, 3)] == [0.5, 2]


def test_polling_errors_wait_up_to_thirty_seconds() -> None:
    assert [polling_delay(n, interval=1.0) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    assert polling_delay(10_000, interval=0.001) == 30


@pytest.mark.parametrize(("random", "expected"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_jitter_is_a_tenth(random: float, expected: float) -> None:
    assert jittered(1.0, lambda: random) == pytest.approx(expected)
