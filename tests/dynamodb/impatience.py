"""Running out of patience with an engine after a number of attempts, instead of after some time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dynamodb_outbox.dynamodb.transport.retrying import Retries


@contextmanager
def giving_up_after(attempts: int) -> Iterator[None]:
    """Have calls repeated at once, and given up after so many attempts."""

    def next_delay(retries: Retries) -> float | None:
        retries.attempts += 1
        return 0.0 if retries.attempts < attempts else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Retries, "next_delay", next_delay)
        yield
