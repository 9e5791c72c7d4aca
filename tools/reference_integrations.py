"""The reference page of `dynamodb_outbox.integrations`: a part for each module."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Final

MODULES: Final = ("fastapi", "aiohttp")
INTRO: Final = """\
Each module needs the library that it is named after, and is imported by itself. The guide: \
[health](../how-to/health.md)."""


def integrations_page(section: Callable[..., str]) -> str:
    """Render the page. `section` renders one name of a module."""
    return "\n\n".join(["# Integrations", INTRO, *(_part(name, section) for name in MODULES)])


def _part(name: str, section: Callable[..., str]) -> str:
    module = importlib.import_module(f"dynamodb_outbox.integrations.{name}")
    sections = [section(each, thing=getattr(module, each), title=f"{name}.{each}") for each in module.__all__]
    return "\n\n".join([f"## {module.__name__}", inspect.cleandoc(module.__doc__ or ""), *sections])
