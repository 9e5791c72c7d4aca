"""The kit: dashboards, rules and alarms name metrics that exist, and every alert has its section of the runbook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cfnlint.api
import pytest
import yaml

from dynamodb_outbox import ConfigurationError, Event, OutboxEventBus
from dynamodb_outbox.dashboards import KINDS, render
from dynamodb_outbox.dashboards.alerts import ALERTS, rules
from dynamodb_outbox.dashboards.cloudwatch import ALARMS, alarms
from dynamodb_outbox.dashboards.grafana import WIDTH, dashboard
from dynamodb_outbox.dashboards.render import RUNBOOK
from dynamodb_outbox.dashboards.yaml import as_yaml
from dynamodb_outbox.integrations import metrics
from dynamodb_outbox.integrations.emf import EmfObserver
from dynamodb_outbox.integrations.metrics import METRICS, label_of
from dynamodb_outbox.observers import LeaseLost, PollingFailed
from tests.telemetry.test_metrics import DOWN, Sampled, sample
from tools.metrics_page import PAGE, with_table

RUNBOOK_PAGE = Path(__file__).resolve().parents[2] / RUNBOOK
_SERIES = re.compile(r"\b((?:dynamodb_outbox|messaging)_\w+?)(_bucket|_sum|_count)?(?=[\[{)\s]|$)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard(runbook=RUNBOOK)["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    of_panels = [target["expr"] for panel in panels() for target in panel["targets"]]
    of_rules = [rule["expr"] for group in rules(runbook=RUNBOOK)["groups"] for rule in group["rules"]]
    return of_panels + of_rules


def without_groups(expression: str) -> str:
    return _GROUPED.sub("", expression)


@pytest.mark.parametrize("expression", expressions())
def test_expression_names_metrics_and_labels_of_the_table(expression: str) -> None:
    by_name = {metric.prometheus_name: metric for metric in METRICS}
    grouped = {name.strip() for names in _GROUPED.findall(expression) for name in names.split(",")} - {"le"}
    found = _SERIES.findall(without_groups(expression))
    assert found
    for name, suffix, matchers in found:
        metric = by_name[name]
        assert bool(suffix) is (metric.kind == "histogram"), name
        labels = {label_of(attribute) for attribute in (*metric.attributes, metrics.TABLE)}
        assert set(re.findall(r"(\w+)(?:=~|!=|=)\"", matchers)) <= labels
        assert grouped <= labels, (name, grouped - labels)
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_the_check_of_expressions_finds_what_is_wrong() -> None:
    with pytest.raises(KeyError):
        test_expression_names_metrics_and_labels_of_the_table("max(dynamodb_outbox_depth)")
    with pytest.raises(AssertionError):
        test_expression_names_metrics_and_labels_of_the_table('sum(rate(dynamodb_outbox_events{kind="due"}[5m]))')


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for expression in expressions() for name, _, _ in _SERIES.findall(without_groups(expression))}
    assert {metric.prometheus_name for metric in METRICS} - shown == set()


def test_panels_do_not_overlap_and_say_what_is_normal() -> None:
    taken: set[tuple[int, int]] = set()
    everything = dashboard(runbook=RUNBOOK)["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert [panel["title"] for panel in panels() if len(panel["description"]) < 30] == []


def test_variables_of_the_dashboard_are_used() -> None:
    text = json.dumps(dashboard(runbook=RUNBOOK))
    for variable in dashboard(runbook=RUNBOOK)["templating"]["list"]:
        assert f"${variable['name']}" in text or f"${{{variable['name']}}}" in text


def sections() -> set[str]:
    return set(re.findall(r"^## (Outbox\w+)$", RUNBOOK_PAGE.read_text(), re.MULTILINE))


def test_every_alert_has_a_section_of_the_runbook() -> None:
    named = {alert.name for alert in ALERTS} | {alarm.name for alarm in ALARMS}
    assert sections() == named
    for group in rules(runbook="https://wiki.example/runbook")["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                link = f"https://wiki.example/runbook#{rule['alert'].lower()}"
                assert rule["annotations"]["runbook_url"] == link


def test_every_section_says_what_to_do() -> None:
    text = RUNBOOK_PAGE.read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition("\n")
        if name.startswith("Outbox"):
            for part in ("**Means:**", "**Look:**", "**Repair:**", "**Verify:**"):
                assert part in body, (name, part)
            assert "dynamodb-outbox " in body, name


async def test_alarms_are_of_metrics_that_the_observer_writes() -> None:
    written: set[str] = set()
    outbox = Sampled(max_retries=0)
    bus = OutboxEventBus(outbox, on_error=lambda _: None)
    observer = EmfObserver(bus, write=lambda line: written.update(json.loads(line)))
    bus.add_observer(observer)
    outbox.found = sample(datetime.now(UTC))
    await bus.sampler.get()

    @bus.on("order.placed")
    async def bill(event: Event) -> None:
        raise ValueError

    await bus.emit("order.placed")
    await bus.run_once()
    observer(LeaseLost(event_id="e", event_type="order.placed"))
    observer(PollingFailed(loop="polling", errors=1, retry_in=1, error=DOWN))
    observer.flush()
    assert {alarm.metric for alarm in ALARMS if not alarm.of_dynamodb} <= written


def test_cfn_lint_has_nothing_to_say() -> None:
    matches = cfnlint.api.lint(render("cloudwatch"), config={"include_checks": ["I"]})
    assert [str(match) for match in matches] == []


def test_texts_are_what_they_are_made_of() -> None:
    assert json.loads(render("grafana")) == dashboard(runbook=RUNBOOK)
    assert yaml.safe_load(render("prometheus-rules")) == rules(runbook=RUNBOOK)
    assert yaml.safe_load(render("cloudwatch")) == alarms(runbook=RUNBOOK)


def test_unknown_part_of_the_kit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kind='datadog': it must be one of grafana, prometheus-rules"):
        render("datadog")


@pytest.mark.parametrize("kind", KINDS)
def test_command_writes_a_part(kind: str) -> None:
    command = [sys.executable, "-m", "dynamodb_outbox.dashboards", kind, "--runbook", "https://wiki.example/r"]
    written = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert written == render(kind, runbook="https://wiki.example/r")


@pytest.mark.parametrize(
    "data",
    [
        {"a": {"b": [1, "two", {"c": None, "d": [[1, 2], []]}]}, "e": {}, "f": []},
        {"text": 'a "quoted": # value', "lines": "one\n  two\nthree", "yes": "no", "on": "5m", "n": "1.5", "x": 1.5},
        [{"a": 1, "b": [2]}, [], "-", "é"],
    ],
)
def test_yaml_is_read_as_it_was_written(data: Any) -> None:
    assert yaml.safe_load(as_yaml(data)) == data


def test_page_lists_the_metrics() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "python -m tools.metrics_page"
    assert page.count("\n| `dynamodb_outbox.") + page.count("\n| `messaging.") == len(METRICS)
