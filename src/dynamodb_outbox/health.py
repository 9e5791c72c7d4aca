"""Whether a bus is well: what a probe of a platform, a dashboard and a person ask."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.validation import check_bool, check_seconds
from dynamodb_outbox.wording import shown

MEDIA_TYPE: Final = "application/health+json"
"""The media type of `Health.to_json`."""
_DAY: Final = 86_400


class HealthStatus(StrEnum):
    """How well a bus is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


JSON_STATUS: Final[Mapping[HealthStatus, str]] = {
    HealthStatus.HEALTHY: "pass",
    HealthStatus.DEGRADED: "warn",
    HealthStatus.UNHEALTHY: "fail",
}
"""The words of `application/health+json` for each status."""


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

    def to_json(self, *, details: bool = True) -> str:
        """Write the health as `application/health+json`: pass, warn or fail. Without `details`, it has no checks."""
        document: dict[str, Any] = {"status": JSON_STATUS[self.status]}
        if details:
            document |= {"live": self.live, "ready": self.ready}
            document["checks"] = {check.name: [_as_json(check)] for check in self.checks}
        return json.dumps(document, default=str)


def _as_json(check: Check) -> dict[str, Any]:
    written: dict[str, Any] = {"status": JSON_STATUS[check.status]}
    if check.reason:
        written["output"] = check.reason
    if check.since is not None:
        written["since"] = check.since.isoformat(timespec="seconds")
    return written | ({"data": dict(check.data)} if check.data else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """When the checks of `bus.health()` find fault. Times are seconds. Raises `ConfigurationError` out of range.

    - `oldest_due_degraded` and `oldest_due_unhealthy`: how long the oldest due event may wait.
    - `storage_unhealthy`: how long calls of DynamoDB may fail. They make the bus DEGRADED at once.
    - `readiness_needs_storage`: whether `ready` is false while calls of DynamoDB fail. All processes then leave the
      load balancer together when DynamoDB is down.
    - `sample_interval`: how often the outbox is sampled while somebody calls `bus.health()`, for the checks `holds`,
      `oldest_due` and `dead_letters`. None takes no samples, and leaves these checks out.
    - `heartbeat_file`: a file whose time of modification is set every 5 s while the loops of the worker turn, for
      probes of processes without HTTP. Put it on a local disk, because the event loop writes it.
    """

    oldest_due_degraded: float = 60.0
    oldest_due_unhealthy: float = 300.0
    storage_unhealthy: float = 300.0
    readiness_needs_storage: bool = False
    sample_interval: float | None = 15.0
    heartbeat_file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_seconds("oldest_due_degraded", self.oldest_due_degraded, 0, 365 * _DAY)
        low = self.oldest_due_degraded
        check_seconds("oldest_due_unhealthy", self.oldest_due_unhealthy, low, 365 * _DAY, low_is="oldest_due_degraded")
        check_seconds("storage_unhealthy", self.storage_unhealthy, 0, 365 * _DAY)
        check_bool("readiness_needs_storage", self.readiness_needs_storage)
        if self.sample_interval is not None:
            check_seconds("sample_interval", self.sample_interval, 1, 3600)
        if self.heartbeat_file is not None and not isinstance(self.heartbeat_file, (str, os.PathLike)):
            raise ConfigurationError(f"heartbeat_file={shown(self.heartbeat_file)}: it must be a path, or None")


def check_health_options(value: object) -> None:
    """Raise `ConfigurationError` unless the value is a `HealthOptions`."""
    if not isinstance(value, HealthOptions):
        raise ConfigurationError(f"health={shown(value)}: it must be a HealthOptions, such as HealthOptions()")
