"""The reference page of `dynamodb_outbox.web`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dynamodb_outbox import web

SETS: Final = ("OPERATOR", "VIEWER")
"""Constants: the intro of the page says what is in them."""
INTRO: Final = """\
The module `dynamodb_outbox.web` needs `pip install "dynamodb-outbox[web]"`. The guide: \
[dashboard](../how-to/dashboard.md).
`VIEWER` is the role `view`; `OPERATOR` is all roles but `edit`."""


def web_page(section: Callable[..., str]) -> str:
    """Render the page. `section` renders one name."""
    names = dict.fromkeys(name for name in ("outbox_dashboard", *web.__all__) if name not in SETS)
    sections = [section(name, thing=getattr(web, name)) for name in names]
    return "\n\n".join(["# The dashboard", INTRO, *sections])
