from __future__ import annotations

import pytest

from dynamodb_outbox.worker.backoff import jittered, polling_delay


def test_polling_errors_wait_up_to_thirty_seconds() -> None:
    assert [polling_delay(n, interval=1.0) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    assert polling_delay(10_000, interval=0.001) == 30


@pytest.mark.parametrize(("random", "expected"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_jitter_is_a_tenth(random: float, expected: float) -> None:
    assert jittered(1.0, lambda: random) == pytest.approx(expected)
