"""`outbox_dashboard`: from a request to a response."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import anyio

from dynamodb_outbox.bus import OutboxEventBus
from dynamodb_outbox.errors import ConfigurationError, OutboxError, StorageError
from dynamodb_outbox.port import Outbox
from dynamodb_outbox.validation import check_callable, check_outbox
from dynamodb_outbox.web import asgi, protection
from dynamodb_outbox.web.access import Access, Authorize, decide
from dynamodb_outbox.web.http import TEXT, BadRequestError, Request, Response
from dynamodb_outbox.web.json_views import json_response
from dynamodb_outbox.web.redaction import Redact
from dynamodb_outbox.web.router import Page, find
from dynamodb_outbox.web.routes import ROUTES
from dynamodb_outbox.web.site import Options, Site, Visit
from dynamodb_outbox.wording import describe, shown

if TYPE_CHECKING:
    from aiohttp import web

_WEB: Final = ("https://", "http://")
PAGES_AT_ONCE: Final = 4
MOST_WAITING: Final = 100
"""How many requests may wait for their turn. Each of them keeps its form in memory."""
logger: Final = logging.getLogger("dynamodb_outbox.web")


def outbox_dashboard(
    outbox_or_bus: Outbox | OutboxEventBus,
    *,
    authorize: Authorize,
    redact: Redact | None = None,
    environment: str | None = None,
    trace_url: str | None = None,
    runbook_url: str | None = None,
    allowed_hosts: Collection[str] | None = None,
) -> Dashboard:
    """Make a dashboard, to be mounted in an application. It borrows the outbox, and opens and closes nothing.

    - `outbox_or_bus` is a bus, or an outbox if this process has no bus. A bus also shows its handlers and its health.
    - `authorize` decides for each request who sends it and what they may do; see `Access`. There is no default.
    - `redact` gets each event before anybody sees it, and returns a copy without what nobody may see.
    - `environment` is a name that every page shows, such as `production`.
    - `trace_url` is the address of a trace in your tracing system, with `{trace_id}` in it.
    - `runbook_url` is the address of your copy of docs/how-to/runbook.md, to which the overview links.
    - `allowed_hosts` are the names that the dashboard answers to. None means that your server or proxy checks them.

    Raises `ConfigurationError` for an argument that cannot work.
    """
    check_callable("authorize", authorize)
    if redact is not None:
        check_callable("redact", redact)
    if trace_url is not None and ("{trace_id}" not in trace_url or not trace_url.startswith(_WEB)):
        raise ConfigurationError(f"trace_url={shown(trace_url)}: it must be an https address with {{trace_id}} in it")
    if runbook_url is not None and not runbook_url.startswith(_WEB):
        raise ConfigurationError(f"runbook_url={shown(runbook_url)}: it must be an https address")
    if isinstance(allowed_hosts, str):
        raise ConfigurationError(f"allowed_hosts={shown(allowed_hosts)}: it must be a list of names")
    bus = outbox_or_bus if isinstance(outbox_or_bus, OutboxEventBus) else None
    outbox = outbox_or_bus.outbox if isinstance(outbox_or_bus, OutboxEventBus) else outbox_or_bus
    check_outbox(outbox)
    options = Options(redact=redact, environment=environment, trace_url=trace_url, runbook_url=runbook_url)
    hosts = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)
    return Dashboard(Site(outbox, bus, options), authorize=authorize, allowed_hosts=hosts)


class Dashboard:
    """A dashboard, which `outbox_dashboard` makes. It is an ASGI application."""

    def __init__(self, site: Site, *, authorize: Authorize, allowed_hosts: frozenset[str] | None) -> None:
        self._site = site
        self._authorize = authorize
        self._allowed_hosts = allowed_hosts
        self._turns: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer as an ASGI application: `app.mount("/outbox", dashboard)`."""
        await asgi.answer(self.handle, scope, receive, send)

    def aiohttp_app(self) -> web.Application:
        """Make an aiohttp application: `app.add_subapp("/outbox", dashboard.aiohttp_app())`."""
        from dynamodb_outbox.web.aiohttp_app import aiohttp_application  # noqa: PLC0415 - only aiohttp users have it

        return aiohttp_application(self.handle)

    async def handle(self, request: Request) -> Response:
        """Answer a request. Adapters call it, also your own for another framework. Raises no errors."""
        try:
            response = await self._answer(request)
        except Exception:
            logger.exception("the dashboard could not answer %s %r", request.method, request.path)
            response = Response.of("The dashboard failed; its log says why.", TEXT, status=500)
        if request.method == "HEAD":
            response = Response(b"", response.status, response.headers)
        return response.with_headers(protection.HEADERS)

    async def _answer(self, request: Request) -> Response:
        """Authorize, then find the page. Nothing is shown, not even a 404, to a person without access."""
        try:
            protection.check_host(request, self._allowed_hosts)
        except BadRequestError as error:
            return Response.of(str(error), TEXT, status=error.status)
        access = await decide(self._authorize, request)
        if isinstance(access, Response):
            return access
        if access is None:
            return Response.of("You have no access to this dashboard.", TEXT, status=403)
        if not request.path:
            return Response.to(f"{request.mount or ''}/")
        known = protection.csrf_token(request)
        token = known or protection.new_csrf_token()
        response = await self._visit(request, access, token)
        if known is not None:
            return response
        return response.with_headers({"set-cookie": protection.csrf_cookie(request, token)})

    async def _visit(self, request: Request, access: Access, token: str) -> Response:
        visit = Visit(site=self._site, request=request, access=access, csrf=token)
        try:
            page = find(ROUTES, request.path, request.method, access)
            if request.method not in protection.SAFE_METHODS:
                form = request.form()
                protection.check_not_forged(request, form)
                visit = Visit(site=self._site, request=request, access=access, csrf=token, form=form)
            return await self._in_turn(page, visit)
        except BadRequestError as error:
            return _error(visit, str(error), error.status)
        except StorageError as error:
            logger.warning("the dashboard could not read or write the outbox: %s", error)
            return _error(visit, f"DynamoDB did not do what the dashboard asked for. {describe(error)}", 503)
        except OutboxError as error:  # a cursor or another argument that the outbox does not take
            return _error(visit, describe(error), 400)

    async def _in_turn(self, page: Page, visit: Visit) -> Response:
        """Answer a few requests at once: they share the connections of the outbox with the worker, which has leases."""
        if visit.request.path.startswith("/static/"):
            return await page(visit)
        # Made here, because a constructor may run before there is an event loop.
        self._turns = self._turns or anyio.CapacityLimiter(PAGES_AT_ONCE)
        if self._turns.statistics().tasks_waiting >= MOST_WAITING:
            raise BadRequestError("too many requests wait for an answer; try again in a moment", status=429)
        async with self._turns:
            return await page(visit)


def _error(visit: Visit, message: str, status: int) -> Response:
    if visit.request.path.startswith("/api/"):
        return json_response("error", {"error": message}, status=status)
    return visit.page("error.html", message=message, status=status, code=status)
