"""Whether an outbox is well, judged by one sample: what `status` says in its first line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.cli.values import many, span
from dynamodb_outbox.health import HealthStatus
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Sample

LATE_SECONDS: Final = 60.0
"""Events that are due for longer are late: the outbox is degraded."""
STUCK_SECONDS: Final = 300.0
"""Events that are due for longer mean that the outbox is unhealthy."""
LONG_HOLD_SECONDS: Final = 3_600.0
_SEVERITY: Final = (HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How well the outbox is, and each reason in words."""

    status: HealthStatus
    reasons: tuple[str, ...]


def judge(sample: Sample, holds: Sequence[Hold]) -> Judgement:
    """Judge a sample: its worst part decides."""
    found = [
        *_of_age("the oldest due event has waited for", sample.oldest_due_age),
        *_of_age("the oldest lease that no worker recovers ran out before", sample.oldest_expired_age),
    ]
    if sample.failed.at_least:
        found.append((HealthStatus.DEGRADED, many(sample.failed, "dead letter")))
    if sample.blocked_keys.at_least:
        blocked = many(sample.blocked_keys, "ordering key")
        found.append((HealthStatus.DEGRADED, f"{blocked} blocked by dead letters: later events of such a key wait"))
    elif sample.blocked_keys.is_unknown:
        found.append((HealthStatus.DEGRADED, unknown_blocked_keys(sample)))
    for hold in holds:
        seconds = (sample.at - hold.since).total_seconds()
        status = HealthStatus.DEGRADED if seconds > LONG_HOLD_SECONDS else HealthStatus.HEALTHY
        what = "all events have" if hold.type is None else f"the type {hold.type!r} has"
        until = f", until {hold.until.isoformat(timespec='seconds')}" if hold.until else ""
        found.append((status, f"{what} been on hold for {span(max(seconds, 0))}{until}, by {hold.by}: {hold.reason}"))
    worst = max((status for status, _ in found), key=_SEVERITY.index, default=HealthStatus.HEALTHY)
    return Judgement(worst, tuple(reason for _, reason in found))


def unknown_blocked_keys(sample: Sample) -> str:
    """Say that older dead letters, which were not counted, may block ordering keys."""
    return (
        f"none of the latest {sample.failed.at_least:,} dead letters blocks an ordering key, but older ones may: they "
        "were not counted"
    )


def _of_age(what: str, seconds: float) -> list[tuple[HealthStatus, str]]:
    if seconds <= LATE_SECONDS:
        return []
    status = HealthStatus.UNHEALTHY if seconds > STUCK_SECONDS else HealthStatus.DEGRADED
    return [(status, f"{what} {span(seconds)}")]
