"""Writes the table of metrics into docs/how-to/opentelemetry.md: `python -m tools.metrics_page`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dynamodb_outbox.integrations.metrics import METRICS, Metric

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "opentelemetry.md"
_TABLE: Final = re.compile(r"<!-- metrics -->\n.*?(?=\n\n)", re.DOTALL)


def with_table(page: str) -> str:
    """Return the page with the table of metrics as it should be."""
    rows = [_row(metric) for metric in METRICS]
    table = "\n".join(["<!-- metrics -->", "| metric | kind | what | attributes |", "|---|---|---|---|", *rows])
    return _TABLE.sub(lambda _: table, page)


def _row(metric: Metric) -> str:
    unit = ", s" if metric.unit == "s" else ""
    attributes = ", ".join(f"`{attribute}`" for attribute in metric.attributes)
    return f"| `{metric.name}` | {metric.kind}{unit} | {metric.description} | {attributes} |"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
