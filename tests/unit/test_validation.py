"""What the messages about bad arguments say."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodb_outbox import ConfigurationError, ExponentialBackoff, InMemoryOutbox, OutboxEventBus, RetryLater
from dynamodb_outbox.validation import check_seconds


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0, 315_360_000, "from 0 to 315,360,000 (10 years)"),
        (0, 3_153_600_000.0, "from 0 to 3,153,600,000 (100 years)"),
        (0.001, 3600, "from 0.001 to 3,600"),
        (0.00001, 43_200.0, "from 0.00001 to 43,200"),
        (1234.5, 31_536_000, "from 1,234.5 to 31,536,000 (1 year)"),
        (0.001, 604_800.0, "from 0.001 to 604,800"),
    ],
)
def test_limits_in_seconds_are_written_out(low: float, high: float, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_seconds("delay", -1, low, high)
    assert str(caught.value) == f"delay=-1: it must be a number of seconds {says}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryLater(-1),
        lambda: ExponentialBackoff(cap=-1),
        lambda: InMemoryOutbox(poll_interval=0),
        lambda: InMemoryOutbox(processing_timeout=0),
        lambda: InMemoryOutbox(base_backoff=-1),
        lambda: OutboxEventBus(InMemoryOutbox(), stop_timeout=-1),
    ],
)
def test_no_limit_is_written_with_an_exponent(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"from [\d.,]+ to [\d.,]+( \(\d+ years?\))?$"):
        make()
