"""aiohttp: routes for the probes of a platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.integrations.health_answers import HEADERS, PATHS, answer, check_route_options

__all__ = ["health_routes"]

BusOf = Callable[[web.Request], OutboxEventBus]
"""Finds the bus of an application that makes it when it starts."""


def health_routes(bus: OutboxEventBus | BusOf, *, details: bool = False, prefix: str = "") -> list[web.RouteDef]:
    """Make the routes `/livez`, `/readyz` and `/health`, which answer from `bus.health()`.

    `app.add_routes(health_routes(bus))` adds them to an application. If the application makes its bus when it starts,
    pass a function that finds it: `health_routes(lambda request: request.app[BUS])`.

    They answer 200 or 503, as `application/health+json`, with the status only. With `details=True`, `/health` tells the
    checks and their reasons, which have texts of errors: protect such routes. A `prefix` comes before each path:
    `prefix="/outbox"` makes `/outbox/livez`.
    """
    check_route_options(prefix=prefix, details=details)

    def endpoint(path: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def probe(request: web.Request) -> web.Response:
            found = bus if isinstance(bus, OutboxEventBus) else bus(request)
            told = answer(found.health(), path, details=details)
            return web.Response(text=told.body, status=told.status_code, headers=HEADERS, content_type=told.media_type)

        return probe

    return [web.get(f"{prefix}{path}", endpoint(path)) for path in PATHS]
