"""The alert rules, tried by `promtool` on series of minutes: which alert fires when, and which does not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynamodb_outbox.dashboards import render
from dynamodb_outbox.dashboards.alerts import ALERTS
from tests.programs import path_of

LAST_POLL = "dynamodb_outbox_worker_last_poll_time_seconds"
SLOTS = "dynamodb_outbox_worker_slots"
DUE_AGE = "dynamodb_outbox_oldest_due_age_seconds"
CALLS = "messaging_process_duration_seconds_count"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series of one value a minute. `firing` says after how many minutes the alert fires, or does not."""

    alert: str
    series: dict[str, str]
    firing: dict[int, bool]
    label: str = ""


def of(name: str, instance: str = "a", **labels: str) -> str:
    """Name a series of the table `orders`, as one process exports it."""
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f'{name}{{outbox_table="orders",instance="{instance}"{"," if shown else ""}{shown}}}'


def calls(outcome: str) -> str:
    return of(CALLS, messaging_destination_name="order.placed", outbox_outcome=outcome)


CASES = (
    Case(alert="OutboxStuck", label="late", series={of(DUE_AGE): "0x4 400x20"}, firing={4: False, 9: False, 11: True}),
    Case(alert="OutboxStuck", label="a lag is not a stop", series={of(DUE_AGE): "200x20"}, firing={20: False}),
    Case(
        alert="OutboxStuck",
        label="one process sees it",
        series={of(DUE_AGE, "a"): "0x20", of(DUE_AGE, "b"): "400x20"},
        firing={10: True},
    ),
    Case(alert="OutboxLagging", series={of(DUE_AGE): "90x30"}, firing={9: False, 11: True}),
    Case(
        alert="OutboxNoWorker",
        label="polls fail",
        series={of(LAST_POLL): "0+60x3 180x20", of(SLOTS): "50x25", of(f"{SLOTS}_used"): "0x25"},
        firing={3: False, 5: False, 9: True},
    ),
    Case(
        alert="OutboxNoWorker",
        label="one of two polls",
        series={of(LAST_POLL, "a"): "0x20", of(LAST_POLL, "b"): "0+60x20"},
        firing={20: False},
    ),
    Case(
        alert="OutboxNoWorker",
        label="the only process is gone",
        series={of(LAST_POLL): "0+60x3 stale _x30"},
        firing={3: False, 7: True},
    ),
    Case(
        alert="OutboxNoWorker",
        label="all slots are taken by long handlers",
        series={of(LAST_POLL): "0x20", of(SLOTS): "50x20", of(f"{SLOTS}_used"): "50x20"},
        firing={20: False},
    ),
    Case(
        alert="OutboxDeadLetters",
        series={of("dynamodb_outbox_events", outbox_status="failed"): "0x4 2x20"},
        firing={4: False, 12: True},
    ),
    Case(
        alert="OutboxKeysBlocked",
        label="for long",
        series={of("dynamodb_outbox_blocked_keys", "a"): "0x4 2x30", of("dynamodb_outbox_blocked_keys", "b"): "0x40"},
        firing={4: False, 18: False, 22: True},
    ),
    Case(
        alert="OutboxKeysBlocked",
        label="dead letters that block nothing",
        series={
            of("dynamodb_outbox_blocked_keys"): "0x40",
            of("dynamodb_outbox_events", outbox_status="failed"): "5x40",
        },
        firing={30: False},
    ),
    Case(
        alert="OutboxDeadLettersRising",
        label="many",
        series={of("dynamodb_outbox_event_failed_total", outbox_reason="rejected"): "0x4 40x20"},
        firing={4: False, 8: True},
    ),
    Case(
        alert="OutboxDeadLettersRising",
        label="few",
        series={of("dynamodb_outbox_event_failed_total", outbox_reason="rejected"): "0x4 5x20"},
        firing={8: False},
    ),
    Case(
        alert="OutboxHandlerFailures",
        label="one in ten",
        series={calls("succeeded"): "0+9x40", calls("failed"): "0+1x40"},
        firing={20: True},
    ),
    Case(
        alert="OutboxHandlerFailures",
        label="one in a hundred",
        series={calls("succeeded"): "0+99x40", calls("failed"): "0+1x40"},
        firing={30: False},
    ),
    Case(
        alert="OutboxHandlerFailures",
        label="too few calls",
        series={calls("succeeded"): "0+1x40", calls("failed"): "0+0.5x40"},
        firing={30: False},
    ),
    Case(
        alert="OutboxHandlerFailures",
        label="a stop is no failure",
        series={calls("succeeded"): "0+5x40", calls("cancelled"): "0+5x40", calls("failed"): "0x40"},
        firing={30: False},
    ),
    Case(
        alert="OutboxSaturated",
        label="full, and events wait",
        series={of(SLOTS): "50x40", of(f"{SLOTS}_used"): "50x40", of(DUE_AGE): "90x40"},
        firing={14: False, 17: True},
    ),
    Case(
        alert="OutboxSaturated",
        label="full, and nothing waits",
        series={of(SLOTS): "50x40", of(f"{SLOTS}_used"): "50x40", of(DUE_AGE): "1x40"},
        firing={30: False},
    ),
    Case(
        alert="OutboxLeasesNotRecovered",
        series={of("dynamodb_outbox_oldest_expired_lease_age_seconds"): "0+60x20"},
        firing={2: False, 10: True},
    ),
    Case(
        alert="OutboxLeaseLost",
        series={of("dynamodb_outbox_lease_lost_total"): "0+1x30"},
        firing={5: False, 20: True},
    ),
    Case(
        alert="OutboxStorageErrors",
        series={of("dynamodb_outbox_poll_errors_total", outbox_loop="polling"): "0+2x20"},
        firing={15: True},
    ),
    Case(
        alert="OutboxSampleStale",
        series={of("dynamodb_outbox_sample_time_seconds"): "0+60x3 180x20"},
        firing={3: False, 14: True},
    ),
    Case(
        alert="OutboxHeldLong",
        series={of("dynamodb_outbox_events", outbox_status="held"): "3x80"},
        firing={59: False, 62: True},
    ),
)


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == {alert.name for alert in ALERTS}


def as_promtool_test(case: Case) -> dict[str, object]:
    fires = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing",outbox_table="orders"}}) or vector(0)'
    return {
        "name": f"{case.alert} {case.label}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": fires,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": int(firing)}],
            }
            for minutes, firing in case.firing.items()
        ],
    }


@pytest.fixture
def promtool(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """A function that runs promtool in a folder with the rules, and returns what it printed."""
    path = path_of("promtool", request.config)
    (tmp_path / "rules.yaml").write_text(render("prometheus-rules"))

    def run(*arguments: str) -> str:
        command = [path, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return output

    return run


def test_promtool_accepts_the_rules(promtool: Callable[..., str]) -> None:
    assert f"{len(ALERTS) + 1} rules found" in promtool("check", "rules", "rules.yaml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert} {case.label}".strip())
def test_alert_fires_when_it_should(case: Case, tmp_path: Path, promtool: Callable[..., str]) -> None:
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [as_promtool_test(case)]}
    (tmp_path / "test.yaml").write_text(json.dumps(test))  # JSON is YAML
    promtool("test", "rules", "test.yaml")
