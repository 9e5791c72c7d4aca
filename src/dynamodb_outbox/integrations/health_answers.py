"""What the health routes of every web framework answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.errors import ConfigurationError
from dynamodb_outbox.health import MEDIA_TYPE, Health, HealthStatus
from dynamodb_outbox.validation import check_bool
from dynamodb_outbox.wording import shown

OK: Final = 200
UNAVAILABLE: Final = 503
HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The status code and the body of a response."""

    status_code: int
    body: str
    media_type: str = MEDIA_TYPE


def _live(health: Health) -> bool:
    return health.live


def _ready(health: Health) -> bool:
    return health.ready


def _not_unhealthy(health: Health) -> bool:
    return health.status is not HealthStatus.UNHEALTHY


HEALTH: Final = "/health"
PATHS: Final[Mapping[str, Callable[[Health], bool]]] = {
    "/livez": _live,
    "/readyz": _ready,
    HEALTH: _not_unhealthy,
}
"""The paths, and whether each answers 200 for a health."""


def answer(health: Health, path: str, *, details: bool) -> Answer:
    """Answer a request to one of the paths. `/livez` and `/readyz` pass or fail; `/health` tells the status."""
    passes = PATHS[path](health)
    if path == HEALTH:
        body = health.to_json(details=details)
    else:
        body = '{"status": "pass"}' if passes else '{"status": "fail"}'
    return Answer(OK if passes else UNAVAILABLE, body)


def check_route_options(*, prefix: object, details: object) -> None:
    """Raise `ConfigurationError` for a bad option of `health_routes`."""
    check_bool("details", details)
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")) or prefix.endswith("/"):
        raise ConfigurationError(f"prefix={shown(prefix)}: it must be empty, or a path such as '/outbox'")
