from __future__ import annotations

import pytest

from dynamodb_outbox.worker.backoff import idle_delay, jittered, polling_delay


def test_polling_errors_wait_up_to_thirty_seconds() -> None:
    assert [polling_delay(n, interval=1.0) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    assert polling_delay(10_000, interval=0.001) == 30


@pytest.mark.parametrize(("random", "expected"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_jitter_is_a_tenth(random: float, expected: float) -> None:
    assert jittered(1.0, lambda: random) == pytest.approx(expected)


def test_idle_polls_slow_down_only_where_it_is_allowed() -> None:
    assert [idle_delay(n, interval=1.0, longest=5.0) for n in range(1, 6)] == [1, 2, 4, 5, 5]
    assert [idle_delay(n, interval=1.0, longest=None) for n in (1, 5, 10_000)] == [1, 1, 1]
    assert idle_delay(10_000, interval=1.0, longest=3600.0) == 3600
