"""Metrics of ordering keys that dead letters block: counted when it happens, and sampled while it lasts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dynamodb_outbox import Event, InMemoryOutbox
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.measuring import Measuring
from dynamodb_outbox.integrations.metrics import Metric
from dynamodb_outbox.observations import KeyBlocked, KeyUnblocked


class Measured:
    """What was added to each time series, by its metric and its own attributes."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, str]] = Counter()
        self.series: set[tuple[str, str]] = set()
        self.measuring = Measuring(self._series, table="orders", clock=lambda: 0.0)

    def _series(self, metric: Metric, attributes: Any) -> Any:
        own = attributes.get(metrics.TYPE) or attributes.get(metrics.REASON) or ""
        key = (metric.name, own)
        self.series.add(key)

        def add(value: float) -> None:
            self.values[key] += int(value)

        return add


def test_keys_are_counted_when_they_are_blocked_and_unblocked() -> None:
    measured = Measured()
    measured.measuring(KeyBlocked(ordering_key="order-17", event_id="a", event_type="order.paid"))
    for repair in ("retry", "skip", "skip", "discard"):
        measured.measuring(KeyUnblocked(ordering_key="order-17", event_id="a", repair=repair))
    assert measured.values == {
        (metrics.KEY_BLOCKED.name, "order.paid"): 1,
        (metrics.KEY_UNBLOCKED.name, "retry"): 1,
        (metrics.KEY_UNBLOCKED.name, "skip"): 2,
        (metrics.KEY_UNBLOCKED.name, "discard"): 1,
    }


def test_counters_begin_with_0_and_no_series_has_a_key_or_an_id() -> None:
    measured = Measured()
    measured.measuring.start()
    measured.measuring.start_counting("order.paid")
    assert (metrics.KEY_BLOCKED.name, "order.paid") in measured.series
    assert {
        (metrics.KEY_UNBLOCKED.name, repair) for repair in ("retry", "skip", "discard", "completed")
    } <= measured.series
    measured.measuring(KeyBlocked(ordering_key="order-17", event_id="a", event_type="order.paid"))
    assert not any("order-17" in own for _, own in measured.series)


async def test_sample_counts_what_is_blocked_now() -> None:
    from dynamodb_outbox.adapter import Failed

    outbox = InMemoryOutbox(claim_on_emit=False)
    await outbox.publish([Event("order.paid", id=each, ordering_key="order-17") for each in ("a", "b")])
    (claim,) = await outbox.claim(10)
    await outbox.settle([(claim, Failed(error="no"))])
    assert (await outbox.sample()).blocked_keys.at_least == 1
    await outbox.skip(["a"])
    assert (await outbox.sample()).blocked_keys.at_least == 0
