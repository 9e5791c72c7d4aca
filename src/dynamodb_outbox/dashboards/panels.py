"""The panels of the dashboard: what each asks, and what is normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dynamodb_outbox.dashboards.promql import (
    FAILURES,
    HANDLER,
    OPERATION,
    REASON,
    STATUS,
    TABLE,
    TYPE,
    in_state,
    largest,
    quantile,
    rate,
    series,
)
from dynamodb_outbox.integrations import metrics as of

Queries = tuple[tuple[str, str], ...]
"""Expressions, and the name of each series in the legend."""

_HERE: Final = f'{TABLE}="$table"'
_TYPES: Final = f'{TYPE}=~"$type"'
_PER: Final = "$__rate_interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `limits` are the values from which it is orange, and red."""

    title: str
    description: str
    queries: Queries
    unit: str = "short"
    kind: Literal["stat", "timeseries"] = "timeseries"
    limits: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of panels."""

    title: str
    panels: tuple[Panel, ...]


def _in_state(state: str) -> Queries:
    return ((in_state(state, _HERE), state),)


def _durations(metric: of.Metric, *matchers: str, by: tuple[str, ...] = (), legend: str = "") -> Queries:
    return tuple(
        (quantile(share, metric, _PER, _HERE, *matchers, by=by), f"{name} {legend}".strip())
        for share, name in ((0.5, "median"), (0.95, "p95"))
    )


def _per_second(metric: of.Metric, *matchers: str, by: tuple[str, ...] = (), legend: str) -> tuple[str, str]:
    return rate(metric, _PER, _HERE, *matchers, by=by or (TABLE,)), legend


def _failure_ratio() -> str:
    by = (TYPE,)
    failed = rate(of.PROCESS_DURATION, _PER, _HERE, _TYPES, FAILURES, by=by, suffix="_count")
    return f"{failed} / {rate(of.PROCESS_DURATION, _PER, _HERE, _TYPES, by=by, suffix='_count')}"


_STUCK: Final = Row(
    title="Is it stuck?",
    panels=(
        Panel(
            title="Oldest due event",
            description="For how long the oldest due event has waited. Normal: below a second. A minute is a lag.",
            queries=((largest(of.OLDEST_DUE_AGE, _HERE), "age"),),
            unit="s",
            kind="stat",
            limits=(60, 300),
        ),
        Panel(
            title="Dead letters",
            description="Events that are FAILED now. Normal: 0. They stay until somebody retries or discards them.",
            queries=_in_state("failed"),
            kind="stat",
            limits=(1, 100),
        ),
        Panel(
            title="Blocked keys",
            description="Ordering keys whose events wait for a dead letter. Normal: 0. Retry or skip the dead letter.",
            queries=((largest(of.BLOCKED_KEYS, _HERE), "keys"),),
            kind="stat",
            limits=(1, 10),
        ),
        Panel(
            title="Last poll",
            description="How long ago a worker polled with success. Normal: below the poll interval.",
            queries=((f"time() - {largest(of.LAST_POLL_TIME, _HERE)}", "ago"),),
            unit="s",
            kind="stat",
            limits=(60, 120),
        ),
        Panel(
            title="Workers",
            description="Workers that polled in the last two minutes. Normal: as many as you run.",
            queries=((f"count(time() - {series(of.LAST_POLL_TIME, _HERE)} < 120) or vector(0)", "workers"),),
            kind="stat",
        ),
        Panel(
            title="Due events",
            description="Events that wait for a worker now. Normal: few. At 1,000 the count stops: at least as many.",
            queries=_in_state("due"),
            kind="stat",
            limits=(500, 1000),
        ),
        Panel(
            title="Held events",
            description="Events that an operator holds. Normal: 0, and more for a while after a `hold`.",
            queries=_in_state("held"),
            kind="stat",
            limits=(1,),
        ),
    ),
)
_FLOW: Final = Row(
    title="Flow",
    panels=(
        Panel(
            title="Emitted and completed",
            description="Events per second. Normal: both lines are the same, except for short moments.",
            queries=(
                _per_second(of.SENT, _TYPES, 'error_type=""', legend="emitted"),
                _per_second(of.COMPLETED, _TYPES, legend="completed"),
                _per_second(of.RETRIED, _TYPES, legend="retried"),
            ),
            unit="ops",
        ),
        Panel(
            title="Wait: due to first handler",
            description="Normal: below the poll interval. It grows when there are too few workers or slots.",
            queries=_durations(of.WAIT_DURATION, _TYPES),
            unit="s",
        ),
        Panel(
            title="From occurrence to completion",
            description="What a user waits for: from `occurred_at` until all handlers have succeeded.",
            queries=_durations(of.CRITICAL_DURATION, _TYPES),
            unit="s",
        ),
        Panel(
            title="Events by state",
            description="Counts stop at 1,000 by default. Normal: due and expired are near 0.",
            queries=((f"max by ({STATUS}) ({series(of.EVENTS, _HERE)})", f"{{{{{STATUS}}}}}"),),
        ),
        Panel(
            title="Failed events by reason",
            description="New dead letters per second. Normal: none.",
            queries=(_per_second(of.FAILED, by=(TYPE, REASON), legend=f"{{{{{TYPE}}}}} {{{{{REASON}}}}}"),),
            unit="ops",
        ),
        Panel(
            title="Keys blocked and unblocked",
            description="Ordering keys per second. Normal: none. Only repairs by your services count as unblocked.",
            queries=(
                _per_second(of.KEY_BLOCKED, legend="blocked"),
                _per_second(of.KEY_UNBLOCKED, by=(REASON,), legend=f"unblocked by {{{{{REASON}}}}}"),
            ),
            unit="ops",
        ),
        Panel(
            title="Failed emits",
            description="Emits that raised, per second, by error. Normal: none, or some DuplicateEventError.",
            queries=(_per_second(of.SENT, 'error_type!=""', by=("error_type",), legend="{{error_type}}"),),
            unit="ops",
        ),
    ),
)
_HANDLERS: Final = Row(
    title="Handlers",
    panels=(
        Panel(
            title="Duration (p95)",
            description="Normal: well below the lease (30 s by default), or below the `timeout` of the handler.",
            queries=(
                (
                    quantile(0.95, of.PROCESS_DURATION, _PER, _HERE, _TYPES, by=(TYPE, HANDLER)),
                    f"{{{{{TYPE}}}}} {{{{{HANDLER}}}}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Share of calls that fail",
            description="Failed, timed out and rejected calls. Normal: below 1 %.",
            queries=((_failure_ratio(), f"{{{{{TYPE}}}}}"),),
            unit="percentunit",
        ),
        Panel(
            title="Calls by outcome",
            description="Calls of handlers per second. Normal: nearly all have succeeded.",
            queries=(
                (
                    rate(of.PROCESS_DURATION, _PER, _HERE, _TYPES, by=("outbox_outcome",), suffix="_count"),
                    "{{outbox_outcome}}",
                ),
            ),
            unit="ops",
        ),
    ),
)
_WORKERS: Final = Row(
    title="Workers and DynamoDB",
    panels=(
        Panel(
            title="Slots",
            description="Slots that are taken, and all slots. Normal: some are free. At the limit events wait.",
            queries=(
                (f"sum({series(of.SLOTS_USED, _HERE)})", "taken"),
                (f"sum({series(of.SLOTS, _HERE)})", "all"),
            ),
        ),
        Panel(
            title="Calls of DynamoDB (p95)",
            description="Normal: 5 to 30 ms; a claim may take longer, because it reads and writes.",
            queries=((quantile(0.95, of.OPERATION_DURATION, _PER, _HERE, by=(OPERATION,)), f"{{{{{OPERATION}}}}}"),),
            unit="s",
        ),
        Panel(
            title="Errors of DynamoDB",
            description="Per second. Normal: none. Throttles are repeated; a few do no harm.",
            queries=(
                _per_second(of.POLL_ERRORS, legend="polls"),
                _per_second(of.SETTLE_ERRORS, legend="outcomes"),
                _per_second(of.THROTTLES, legend="throttles"),
            ),
            unit="ops",
        ),
        Panel(
            title="Claims that were refused",
            description="Per second. Normal with several workers: they are at the same events. Each costs a write.",
            queries=(_per_second(of.CLAIM_REFUSED, legend="refused"), _per_second(of.CONSUMED, legend="claimed")),
            unit="ops",
        ),
        Panel(
            title="Lost and recovered",
            description="Per second. Normal: none, except during deploys. Each means that a handler may run twice.",
            queries=(
                _per_second(of.LEASE_LOST, legend="leases lost"),
                _per_second(of.RECOVERED, legend="recovered"),
                _per_second(of.RELEASED, legend="released"),
            ),
            unit="ops",
        ),
        Panel(
            title="Oldest expired lease",
            description="Normal: 0, and seconds after the death of a worker. It grows if nobody recovers.",
            queries=((largest(of.OLDEST_EXPIRED_AGE, _HERE), "age"),),
            unit="s",
        ),
    ),
)
ROWS: Final = (_STUCK, _FLOW, _HANDLERS, _WORKERS)
"""The rows of the dashboard, the most urgent first."""
