"""The dashboard says in words what is the matter, the worst first."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox.health import Check, Health, HealthStatus
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Count, Sample
from dynamodb_outbox.web.verdict import Finding, Level, findings

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "runbook.md"
NOW = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
COUNTS = ("due", "scheduled", "processing", "expired", "failed", "held")


def anchors_of(page: Path) -> set[str]:
    return {heading.lower() for heading in re.findall(r"^## (\w+)$", page.read_text(), re.MULTILINE)}


def sample(*, due_for: float | None = None, expired_for: float | None = None, **counts: Any) -> Sample:
    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOW - timedelta(seconds=seconds)

    values = {name: Count(at_least=counts.get(name, 0), is_exact=True) for name in COUNTS}
    return Sample(
        at=NOW,
        oldest_due=ago(due_for),
        oldest_expired=ago(expired_for),
        latest_failed=ago(10) if counts.get("failed") else None,
        **values,
    )


def hold(type: str | None = None) -> Hold:
    return Hold(type=type, reason="a deploy", by="ada", since=NOW - timedelta(minutes=5))


def found(sample: Sample | None, **others: Any) -> list[Finding]:
    return findings(NOW, sample, **others)


@pytest.mark.parametrize(
    ("taken", "level", "title"),
    [
        (sample(), Level.HEALTHY, "Healthy"),
        (sample(due=5, due_for=59), Level.HEALTHY, "Healthy"),
        (sample(due=5, due_for=61), Level.DEGRADED, "Events are late"),
        (sample(due=5, due_for=301), Level.STUCK, "Stuck: no worker takes events"),
        (sample(due=5, due_for=301, processing=3), Level.STUCK, "Stuck: workers are slower than events come"),
        (sample(due=5, due_for=301, expired=2, expired_for=200), Level.STUCK, "Stuck: the workers are gone"),
        (sample(expired=2, expired_for=200), Level.DEGRADED, "Leases ran out, and no worker recovers them"),
        (sample(expired=2, expired_for=20), Level.HEALTHY, "Healthy"),
        (sample(failed=1), Level.DEGRADED, "1 dead letter"),
        (sample(failed=1200), Level.DEGRADED, "1,200 dead letters"),
        (sample(held=4), Level.DEGRADED, "4 events are held, and no hold is in force"),
        (sample(scheduled=9, processing=9), Level.HEALTHY, "Healthy"),
    ],
)
def test_first_finding(taken: Sample, level: Level, title: str) -> None:
    first = found(taken)[0]
    assert (first.level, first.title) == (level, title)
    assert first.why
    assert first.next
    assert first.level is Level.HEALTHY or first.runbook in anchors_of(RUNBOOK)


def test_all_findings_are_listed_the_worst_first() -> None:
    taken = sample(failed=3, due=5, due_for=400)
    assert [finding.level for finding in found(taken)] == [Level.STUCK, Level.DEGRADED]


def test_outbox_that_cannot_be_read_is_not_healthy() -> None:
    (first,) = found(None, error="CredentialsError: expired")
    assert first.level is Level.UNKNOWN
    assert "CredentialsError" in first.why
    assert first.runbook in anchors_of(RUNBOOK)


@pytest.mark.parametrize("name", ["slots", "leases", "storage"])
def test_checks_of_the_process_lead_to_the_runbook(name: str) -> None:
    check = Check(name=name, status=HealthStatus.DEGRADED, reason="why")
    (only,) = found(sample(), health=Health(status=check.status, live=True, ready=True, checks=(check,)))
    assert only.runbook in anchors_of(RUNBOOK)


def test_old_numbers_are_not_trusted() -> None:
    later = findings(NOW + timedelta(seconds=61), sample())
    assert later[0].title == "The numbers are old"


def test_events_of_a_held_outbox_are_not_late() -> None:
    (only,) = found(sample(due=5, due_for=4_000), holds=[hold()])
    assert only.level is Level.HELD
    assert "ada has held it for 5 min" in only.why
    assert "a deploy" in only.why


def test_a_held_type_does_not_excuse_the_others() -> None:
    levels = [finding.level for finding in found(sample(due=5, due_for=400, held=3), holds=[hold("user.created")])]
    assert levels == [Level.STUCK, Level.HELD]


@pytest.mark.parametrize("status", [HealthStatus.DEGRADED, HealthStatus.UNHEALTHY])
def test_health_of_the_process_is_a_finding_but_the_outbox_is_not_stuck_by_it(status: HealthStatus) -> None:
    bad = Check(name="event_loop", status=status, reason="a handler blocks", since=NOW - timedelta(seconds=90))
    good = Check(name="poll", status=HealthStatus.HEALTHY)
    said = Check(name="dead_letters", status=status, reason="said already")
    (only,) = found(sample(), health=Health(status=status, live=True, ready=True, checks=(bad, good, said)))
    assert (only.level, only.title) == (Level.DEGRADED, "This process: event loop, for 1 min 30 s")
    assert only.why == "a handler blocks"


def test_keys_that_may_be_blocked_are_not_called_free() -> None:
    taken = replace(sample(failed=1000), blocked_keys=Count(at_least=0, is_exact=False))
    assert [each.title for each in found(taken)] == ["Ordering keys may be blocked", "1,000 dead letters"]
    assert "None of the latest 1,000 dead letters blocks one." in found(taken)[0].why
