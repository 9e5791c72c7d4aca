"""The alert rules for Prometheus. Each alert has a section of the runbook, with the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from dynamodb_outbox.dashboards.promql import FAILURES, TABLE, TYPE, in_state, increase, largest, rate, series
from dynamodb_outbox.integrations.metrics import (
    BLOCKED_KEYS,
    FAILED,
    LAST_POLL_TIME,
    LEASE_LOST,
    OLDEST_DUE_AGE,
    OLDEST_EXPIRED_AGE,
    POLL_ERRORS,
    PROCESS_DURATION,
    SAMPLE_TIME,
    SETTLE_ERRORS,
    SLOTS,
    SLOTS_USED,
)

Severity = Literal["page", "ticket", "warning"]
_OF_TABLE: Final = f"{{{{ $labels.{TABLE} }}}}"
_OF_TYPE: Final = f"{{{{ $labels.{TYPE} }}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert: when `expression` has had a value for the time `lasts`."""

    name: str
    severity: Severity
    expression: str
    lasts: str
    summary: str
    description: str


def _saturation() -> str:
    return f"sum by ({TABLE}) ({series(SLOTS_USED)}) / sum by ({TABLE}) ({series(SLOTS)})"


def _calls(*matchers: str) -> str:
    return increase(PROCESS_DURATION, "10m", *matchers, by=(TABLE, TYPE), suffix="_count")


ALERTS: Final = (
    Alert(
        name="OutboxStuck",
        severity="page",
        expression=f"{largest(OLDEST_DUE_AGE)} > 300",
        lasts="5m",
        summary=f"Outbox {_OF_TABLE} is stuck",
        description="The oldest due event has waited for {{ $value | humanizeDuration }}. Events are not delivered.",
    ),
    Alert(
        name="OutboxNoWorker",
        severity="page",
        expression=(
            f"(time() - {largest(LAST_POLL_TIME)} > 120\n"
            f"  unless max by ({TABLE}) ({series(SLOTS_USED)} / {series(SLOTS)}) >= 1)\n"
            f"or (max by ({TABLE}) (max_over_time({series(LAST_POLL_TIME)}[1h]))\n"
            f"  unless {largest(LAST_POLL_TIME)})"
        ),
        lasts="2m",
        summary=f"No worker polls outbox {_OF_TABLE}",
        description="No process has polled the table with success for two minutes, so no event is delivered.",
    ),
    Alert(
        name="OutboxDeadLettersRising",
        severity="page",
        expression=f"{increase(FAILED, '15m')} > 20",
        lasts="0m",
        summary=f"Many events of outbox {_OF_TABLE} fail",
        description="{{ $value | humanize }} events became dead letters in 15 minutes. Nobody handles them by itself.",
    ),
    Alert(
        name="OutboxKeysBlocked",
        severity="page",
        expression=f"{largest(BLOCKED_KEYS)} > 0",
        lasts="15m",
        summary=f"Ordering keys of outbox {_OF_TABLE} are blocked",
        description="Dead letters block {{ $value | humanize }} keys. Their later events wait until somebody acts.",
    ),
    Alert(
        name="OutboxDeadLetters",
        severity="ticket",
        expression=f"{in_state('failed')} > 0",
        lasts="5m",
        summary=f"Outbox {_OF_TABLE} has dead letters",
        description="{{ $value | humanize }} events are FAILED. They stay so until somebody retries or discards them.",
    ),
    Alert(
        name="OutboxHandlerFailures",
        severity="warning",
        expression=f"{_calls(FAILURES)} / {_calls()} > 0.05\nand {_calls()} >= 20",
        lasts="5m",
        summary=f"Handlers of {_OF_TYPE} fail in outbox {_OF_TABLE}",
        description="{{ $value | humanizePercentage }} of the handler calls of the last 10 minutes failed.",
    ),
    Alert(
        name="OutboxLagging",
        severity="warning",
        expression=f"{largest(OLDEST_DUE_AGE)} > 60",
        lasts="10m",
        summary=f"Outbox {_OF_TABLE} lags behind",
        description="The oldest due event has waited for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="OutboxSaturated",
        severity="warning",
        expression=f"{_saturation()} > 0.9\nand {largest(OLDEST_DUE_AGE)} > 60",
        lasts="15m",
        summary=f"The workers of outbox {_OF_TABLE} are full",
        description="{{ $value | humanizePercentage }} of the slots are taken, while due events wait.",
    ),
    Alert(
        name="OutboxLeasesNotRecovered",
        severity="warning",
        expression=f"{largest(OLDEST_EXPIRED_AGE)} > 120",
        lasts="5m",
        summary=f"Events of a dead worker are not recovered in outbox {_OF_TABLE}",
        description="The oldest expired lease has waited for {{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="OutboxLeaseLost",
        severity="warning",
        expression=f"{increase(LEASE_LOST, '10m')} > 0",
        lasts="10m",
        summary=f"Handlers of outbox {_OF_TABLE} run twice",
        description="{{ $value | humanize }} leases were lost in 10 minutes: handlers take too long, or block.",
    ),
    Alert(
        name="OutboxStorageErrors",
        severity="warning",
        expression=f"{increase(POLL_ERRORS, '10m')} > 2\nor {increase(SETTLE_ERRORS, '10m')} > 2",
        lasts="5m",
        summary=f"Calls of DynamoDB fail for outbox {_OF_TABLE}",
        description="{{ $value | humanize }} polls or outcomes failed in 10 minutes.",
    ),
    Alert(
        name="OutboxSampleStale",
        severity="warning",
        expression=f"time() - {largest(SAMPLE_TIME)} > 120",
        lasts="5m",
        summary=f"Outbox {_OF_TABLE} cannot be sampled",
        description="Age and number of events are unknown since {{ $value | humanizeDuration }}.",
    ),
    Alert(
        name="OutboxHeldLong",
        severity="warning",
        expression=f"{in_state('held')} > 0",
        lasts="1h",
        summary=f"Events of outbox {_OF_TABLE} are held",
        description="{{ $value | humanize }} events have been held for an hour or longer. Somebody has to resume them.",
    ),
)
"""The alerts, the most urgent first."""


def rules(*, runbook: str) -> dict[str, Any]:
    """Return the rule file of Prometheus: the alerts, and the share of handler calls that succeed, by type."""
    return {
        "groups": [
            {
                "name": "dynamodb-outbox",
                "rules": [
                    {"record": "dynamodb_outbox:handler_success:ratio_rate5m", "expr": _success_ratio()},
                    *(_rule(alert, runbook) for alert in ALERTS),
                ],
            }
        ]
    }


def _success_ratio() -> str:
    by = (TABLE, TYPE)
    failed = rate(PROCESS_DURATION, "5m", FAILURES, by=by, suffix="_count")
    called = rate(PROCESS_DURATION, "5m", by=by, suffix="_count")
    return f"1 - ({failed} or 0 * {called}) / {called}"


def _rule(alert: Alert, runbook: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": section_of(alert.name, runbook),
        },
    }


def section_of(name: str, runbook: str) -> str:
    """Return the address of the section of an alert in the runbook."""
    return f"{runbook}#{name.lower()}"
