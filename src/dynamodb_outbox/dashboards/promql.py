"""Parts of PromQL expressions, from the table of metrics: a metric that does not exist cannot be named."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.metrics import Metric, label_of

TABLE: Final = label_of(metrics.TABLE)
TYPE: Final = label_of(metrics.TYPE)
HANDLER: Final = label_of(metrics.HANDLER)
OPERATION: Final = label_of(metrics.OPERATION)
OUTCOME: Final = label_of(metrics.OUTCOME)
REASON: Final = label_of(metrics.REASON)
STATUS: Final = label_of(metrics.STATUS)
FAILURES: Final = f'{OUTCOME}=~"failed|timed_out|rejected"'
"""The handler calls that count as failures: not those that a stop cancelled, and not `RetryLater`."""


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Select the series of a metric: `dynamodb_outbox_events{outbox_status="due"}`. `suffix` is for histograms."""
    selected = f"{{{','.join(matchers)}}}" if matchers else ""
    return f"{metric.prometheus_name}{suffix}{selected}"


def largest(metric: Metric, *matchers: str) -> str:
    """Take a value that each process reports of the same table: the largest, and never the sum."""
    return f"max by ({TABLE}) ({series(metric, *matchers)})"


def in_state(state: str, *matchers: str) -> str:
    """Take the number of events in a state."""
    return largest(metrics.EVENTS, *matchers, f'{STATUS}="{state}"')


def increase(metric: Metric, over: str, *matchers: str, by: tuple[str, ...] = (TABLE,), suffix: str = "") -> str:
    """Sum the increase of a counter over a time, of all processes."""
    return f"sum by ({', '.join(by)}) (increase({series(metric, *matchers, suffix=suffix)}[{over}]))"


def rate(metric: Metric, over: str, *matchers: str, by: tuple[str, ...] = (TABLE,), suffix: str = "") -> str:
    """Sum the rate of a counter, of all processes."""
    return f"sum by ({', '.join(by)}) (rate({series(metric, *matchers, suffix=suffix)}[{over}]))"


def quantile(share: float, metric: Metric, over: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Estimate a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(metric, over, *matchers, by=('le', *by), suffix='_bucket')})"
