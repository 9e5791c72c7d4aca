"""Renders the parts of the kit as texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from dynamodb_outbox.dashboards.alerts import rules
from dynamodb_outbox.dashboards.cloudwatch import alarms
from dynamodb_outbox.dashboards.grafana import dashboard
from dynamodb_outbox.dashboards.yaml import as_yaml
from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.wording import shown

RUNBOOK: Final = "docs/how-to/runbook.md"
"""Where the runbook is in this repository. Alerts link to the copy that you publish."""
_NOTE: Final = "# Made by `python -m dynamodb_outbox.dashboards {kind}`.\n"


def render(kind: str, *, runbook: str = RUNBOOK) -> str:
    """Render a part of the kit: `grafana` (JSON), `prometheus-rules` (YAML) or `cloudwatch` (YAML).

    `runbook` is the address of the runbook page; each alert links to its section. Raises `ConfigurationError` for
    another kind.
    """
    if kind not in _RENDERERS:
        raise ConfigurationError(f"kind={shown(kind)}: it must be one of {', '.join(KINDS)}")
    return _RENDERERS[kind](runbook)


def _grafana(runbook: str) -> str:
    return json.dumps(dashboard(runbook=runbook), indent=2) + "\n"


def _prometheus_rules(runbook: str) -> str:
    return _NOTE.format(kind="prometheus-rules") + as_yaml(rules(runbook=runbook))


def _cloudwatch(runbook: str) -> str:
    return _NOTE.format(kind="cloudwatch") + as_yaml(alarms(runbook=runbook))


_RENDERERS: Final[Mapping[str, Callable[[str], str]]] = {
    "grafana": _grafana,
    "prometheus-rules": _prometheus_rules,
    "cloudwatch": _cloudwatch,
}
KINDS: Final = tuple(_RENDERERS)
"""The parts of the kit."""
