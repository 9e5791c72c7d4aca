"""The dashboard for Grafana. Each panel says what is normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from dynamodb_outbox.dashboards.panels import ROWS, Panel, Row
from dynamodb_outbox.dashboards.promql import TABLE, TYPE
from dynamodb_outbox.integrations.metrics import COMPLETED, LAST_POLL_TIME

UID: Final = "dynamodb-outbox"
SCHEMA_VERSION: Final = 39
WIDTH: Final = 24
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def dashboard(*, runbook: str) -> dict[str, Any]:
    """Return the model of the dashboard, which Grafana imports."""
    return {
        "uid": UID,
        "title": "DynamoDB outbox",
        "tags": ["dynamodb-outbox"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [{"title": "Runbook", "type": "link", "url": runbook, "targetBlank": True}],
        "templating": {"list": _variables()},
        "panels": _panels(ROWS),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _variable("table", "Table", LAST_POLL_TIME.prometheus_name, TABLE, multi=False),
        _variable("type", "Event type", f'{COMPLETED.prometheus_name}{{{TABLE}="$table"}}', TYPE, multi=True),
    ]


def _variable(name: str, label: str, of: str, values: str, *, multi: bool) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({of}, {values})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        **({"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}} if multi else {}),
    }


@dataclass(slots=True)
class _Place:
    """Where the next panel goes: from left to right, then in the next line."""

    x: int = 0
    y: int = 0
    height: int = 0

    def take(self, width: int, height: int) -> dict[str, int]:
        if self.x + width > WIDTH:
            self.next_line()
        taken = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x += width
        self.height = max(self.height, height)
        return taken

    def next_line(self) -> None:
        self.x, self.y, self.height = 0, self.y + self.height, 0


def _panels(rows: Sequence[Row]) -> list[dict[str, Any]]:
    place = _Place()
    made: list[dict[str, Any]] = []
    for row in rows:
        place.next_line()
        made.append({"type": "row", "title": row.title, "collapsed": False, "gridPos": place.take(WIDTH, 1)})
        place.next_line()
        made += [_panel(panel, place) for panel in row.panels]
    return [{"id": number, **panel} for number, panel in enumerate(made, start=1)]


def _panel(panel: Panel, place: _Place) -> dict[str, Any]:
    is_stat = panel.kind == "stat"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place.take(4, 4) if is_stat else place.take(8, 8),
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": _DATASOURCE}
            for number, (query, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel.kind),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in zip(("orange", "red"), panel.limits, strict=False)]
    return {
        "unit": panel.unit,
        "min": 0,
        "noValue": "no data",
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }


def _options(kind: Literal["stat", "timeseries"]) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area"}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
