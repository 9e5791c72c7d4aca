"""FastAPI and Starlette: routes for the probes of a platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.integrations.health_answers import HEADERS, PATHS, answer, check_route_options

__all__ = ["health_routes"]

BusOf = Callable[[Request], OutboxEventBus]
"""Finds the bus of an application that makes it when it starts."""


def health_routes(bus: OutboxEventBus | BusOf, *, details: bool = False, prefix: str = "") -> list[Route]:
    """Make the routes `/livez`, `/readyz` and `/health`, which answer from `bus.health()`.

    `app.routes.extend(health_routes(bus))` adds them to a FastAPI or Starlette application. If the application makes
    its bus when it starts, pass a function that finds it: `health_routes(lambda request: request.state.bus)`.

    They answer 200 or 503, as `application/health+json`, with the status only, and are not in the OpenAPI document.
    With `details=True`, `/health` tells the checks and their reasons, which have texts of errors: protect such routes.
    A `prefix` comes before each path: `prefix="/outbox"` makes `/outbox/livez`.
    """
    check_route_options(prefix=prefix, details=details)

    def endpoint(path: str) -> Callable[[Request], Awaitable[Response]]:
        async def probe(request: Request) -> Response:
            found = bus if isinstance(bus, OutboxEventBus) else bus(request)
            told = answer(found.health(), path, details=details)
            return Response(told.body, told.status_code, HEADERS, told.media_type)

        return probe

    return [Route(f"{prefix}{path}", endpoint(path), methods=["GET"], name=f"outbox{path}") for path in PATHS]
