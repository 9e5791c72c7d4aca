"""Usual histories, that break no invariant until a test changes them."""

from __future__ import annotations

from reliability.history import StoringRequest
from tests.reliability.history_builder import HistoryBuilder, stored


def delivered() -> HistoryBuilder:
    """Emitted, claimed, handled and completed."""
    return HistoryBuilder().emit().attempt(2.0, "succeeded", "complete").ends()


def recovered() -> HistoryBuilder:
    """The first worker began and is not heard of again; the second one recovers the event, and completes it."""
    story = HistoryBuilder().emit().claim(2.0).start(2.1)
    return story.recover(12.5).attempt(13.0, "succeeded", "complete", "w2", number=2).ends(retries=1)


def retried() -> HistoryBuilder:
    """Two attempts fail, and the third succeeds, after 1 s and 2 s."""
    story = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=1.0)
    story.attempt(3.6, "failed", "retry", number=2, delay=2.0)
    return story.attempt(6.2, "succeeded", "complete", number=3).ends(retries=2)


def dead() -> HistoryBuilder:
    """All three attempts fail."""
    story = HistoryBuilder().emit().attempt(2.0, "failed", "retry", delay=1.0)
    story.attempt(3.6, "failed", "retry", number=2, delay=2.0)
    return story.attempt(6.2, "failed", "fail", number=3).ends("FAILED", retries=2)


# Fencing


PENDING = stored("PENDING", sort_key=1.0)
HELD = stored("PROCESSING", sort_key=12.0, token="t1")


# Retries


HELD_BY_W1 = stored("PROCESSING", sort_key=12.0, token="w1-1")


# Fencing


def held() -> HistoryBuilder:
    return HistoryBuilder().write(1.0, None, PENDING, "w1").write(2.0, PENDING, HELD, "w1")


# Terminal states


def request(began_at: float, at: float, *event_ids: str, error: str = "", worker: str = "") -> StoringRequest:
    ids = event_ids or ("e",)
    return StoringRequest(at=at, began_at=began_at, operation="put_item", event_ids=ids, worker=worker, error=error)
