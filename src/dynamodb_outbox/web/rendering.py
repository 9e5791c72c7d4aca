"""Renders the templates. Every value is escaped, unless it is markup that `charts` has made."""

from __future__ import annotations

from functools import cache
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from dynamodb_outbox import typed_json
from dynamodb_outbox.web import text
from dynamodb_outbox.web.static import VERSION

FILTERS: Final = {
    "away": text.away,
    "duration": text.duration,
    "first_line": text.first_line,
    "moment": text.moment,
    "number": text.number,
    "packed_time": text.packed_time,
    "revealed": text.revealed,
    "revealed_lines": text.revealed_lines,
}


def pretty(value: Any) -> str:
    """Write a payload as JSON with indents."""
    return typed_json.to_json(value, indent=2)


def quoted(value: str) -> str:
    """Percent-encode a value of a query completely."""
    return quote(value, safe="")


def render(template: str, **values: Any) -> str:
    """Render a template."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dynamodb_outbox.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = environment.filters
    filters.update(FILTERS, pretty=pretty, quoted=quoted)
    names: dict[str, Any] = environment.globals
    names.update(packed=text.packed, version=VERSION)
    return environment
