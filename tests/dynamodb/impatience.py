"""Running out of patience with an engine after a number of attempts, instead of after some time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dynamodb_outbox.dynamodb.transport.client import Backoff


@contextmanager
def giving_up_after(attempts: int) -> Iterator[None]:
    """Have calls repeated at once, and given up after so many attempts: the next delay would outlast any deadline."""

    def next_delay(backoff: Backoff) -> float:
        backoff.attempts += 1
        return 0.0 if backoff.attempts < attempts else math.inf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backoff, "next_delay", next_delay)
        yield
