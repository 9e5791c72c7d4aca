"""Whether a bus is well: what a probe of a platform, a dashboard and a person ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class HealthStatus(StrEnum):
    """How well a bus is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at: what is the matter, and since when."""

    name: str
    status: HealthStatus
    reason: str = ""
    since: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of a bus. `live` is false only if a restart of the process helps; `ready` once events are handled.

    `status` is the worst status of the checks.
    """

    status: HealthStatus
    live: bool
    ready: bool
    checks: tuple[Check, ...] = ()
