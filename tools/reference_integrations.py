"""The reference page of `dynamodb_outbox.integrations`: a part for each module."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Final

MODULES: Final = ("opentelemetry", "emf", "fastapi", "aiohttp")
INTRO: Final = """\
Each module is imported by itself. All but `emf` need the library that they are named after. The guides: \
[OpenTelemetry](../how-to/opentelemetry.md), [CloudWatch metrics](../how-to/cloudwatch-metrics.md), \
[health](../how-to/health.md)."""


def integrations_page(section: Callable[..., str]) -> str:
    """Render the page. `section` renders one name of a module."""
    return "\n\n".join(["# Integrations", INTRO, *(_part(name, section) for name in MODULES)])


def _part(name: str, section: Callable[..., str]) -> str:
    module = importlib.import_module(f"dynamodb_outbox.integrations.{name}")
    sections = [section(each, thing=getattr(module, each), title=f"{name}.{each}") for each in module.__all__]
    return "\n\n".join([f"## {module.__name__}", inspect.cleandoc(module.__doc__ or ""), *sections])
