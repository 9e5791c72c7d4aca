"""The dashboard in FastAPI, Starlette, aiohttp, and as an ASGI application of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from dynamodb_outbox import EventStatus, InMemoryOutbox, OutboxEventBus
from dynamodb_outbox.web import Access, Dashboard, Request, Role, outbox_dashboard
from dynamodb_outbox.web.dead_letters import Selection
from dynamodb_outbox.web.http import MAX_BODY
from tests.web.client import FORM, Document
from tests.web.conftest import fail_events, failing

Open = Callable[[Dashboard], Any]


@asynccontextmanager
async def asgi_client(application: Any, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application, root_path=root_path, client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://dash.test") as client:
        yield client


@asynccontextmanager
async def in_fastapi(dashboard: Dashboard) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.mount("/admin/outbox", dashboard)
    async with asgi_client(app) as client:
        yield client


@asynccontextmanager
async def in_starlette(dashboard: Dashboard) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(Starlette(routes=[Mount("/admin", routes=[Mount("/outbox", dashboard)])])) as client:
        yield client


@asynccontextmanager
async def in_aiohttp(dashboard: Dashboard) -> AsyncIterator[httpx.AsyncClient]:
    app = web.Application()
    app.add_subapp("/admin/outbox", dashboard.aiohttp_app())
    async with serve_aiohttp(app) as client:
        yield client


@asynccontextmanager
async def serve_aiohttp(app: web.Application) -> AsyncIterator[httpx.AsyncClient]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.fixture(params=[in_fastapi, in_starlette, in_aiohttp])
async def mounted(request: pytest.FixtureRequest, dashboard: Dashboard) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(request.param(dashboard))


async def test_mount_without_a_slash_leads_to_the_overview(mounted: httpx.AsyncClient) -> None:
    reply = await mounted.get("/admin/outbox", follow_redirects=True)
    assert reply.status_code == 200
    assert reply.url.path == "/admin/outbox/"
    assert "<h1" in reply.text


@pytest.mark.parametrize("event_id", ["f1", "a/b%2Fc #?&=+\n<é"])
async def test_action_by_the_links_and_forms_of_the_pages(
    mounted: httpx.AsyncClient, bus: OutboxEventBus, outbox: InMemoryOutbox, event_id: str
) -> None:
    await fail_events(bus, failing(id=event_id))
    reply = await mounted.get("/admin/outbox/events", params={"state": "failed"})
    (link,) = [link for link in Document(reply.text).links() if "event?" in link]
    reply = await mounted.get(str(reply.url.join(link)))
    assert reply.status_code == 200
    for _ in range(2):  # the second page asks, and has the form again
        form = Document(reply.text).form("retry")
        reply = await mounted.post(str(reply.url.join("./retry")), data=form, headers={"sec-fetch-site": "same-origin"})
    assert reply.status_code == 303
    assert outbox.status_of(event_id) is EventStatus.PENDING
    reply = await mounted.get(str(reply.url.join(reply.headers["location"])))
    assert "due again" in reply.text


async def test_static_files_are_found(mounted: httpx.AsyncClient) -> None:
    reply = await mounted.get("/admin/outbox/")
    page = Document(reply.text)
    for target in (page.all("script")[0]["src"], page.all("link", rel="stylesheet")[0]["href"]):
        assert (await mounted.get(str(reply.url.join(target)))).status_code == 200


async def test_export_is_sent_in_parts(mounted: httpx.AsyncClient, bus: OutboxEventBus) -> None:
    await fail_events(bus, *(failing() for _ in range(150)))
    reply = await mounted.get("/admin/outbox/dead-letters.jsonl", params={"selection": Selection().packed})
    assert reply.status_code == 200
    assert len(reply.text.splitlines()) == 150


async def test_head_and_errors(mounted: httpx.AsyncClient) -> None:
    head = await mounted.head("/admin/outbox/")
    assert (head.status_code, head.content) == (200, b"")
    assert (await mounted.get("/admin/outbox/nothing")).status_code == 404
    assert (await mounted.get("/admin/outbox/events?type=%ff")).status_code == 400
    assert (await mounted.put("/admin/outbox/")).status_code == 405
    for reply in (head, await mounted.get("/admin/outbox/nothing")):
        assert "default-src 'none'" in reply.headers["content-security-policy"]


async def test_body_that_is_too_long_is_refused(mounted: httpx.AsyncClient) -> None:
    reply = await mounted.post("/admin/outbox/retry", content=b"a" * (MAX_BODY + 1), headers={"content-type": FORM})
    assert reply.status_code == 413


async def test_authorize_sees_the_request_of_the_framework(outbox: InMemoryOutbox) -> None:
    seen: list[Request] = []

    def authorize(request: Request) -> Access:
        seen.append(request)
        return Access("ada", [Role.VIEW])

    dashboard = outbox_dashboard(outbox, authorize=authorize)
    for opened in (in_fastapi, in_starlette, in_aiohttp):
        async with opened(dashboard) as client:
            await client.get("/admin/outbox/events?state=due", headers={"X-User": "eve"})
        request = seen.pop()
        assert (request.path, request.mount, request.method) == ("/events", "/admin/outbox", "GET")
        assert request.query.get("state") == "due"
        assert request.headers["x-user"] == "eve"
        assert request.client in {"192.0.2.7", "127.0.0.1"}
        native = request.native
        assert (native.path if isinstance(native, web.Request) else native["path"]) == "/admin/outbox/events"


@pytest.mark.parametrize(
    ("root_path", "path"), [("/proxied", "/proxied/events"), ("/proxied", "/events"), ("", "/events")]
)
async def test_root_path_of_a_proxy_may_be_in_the_path_or_not(dashboard: Dashboard, root_path: str, path: str) -> None:
    async with asgi_client(dashboard, root_path) as client:
        assert "Due events" in (await client.get(path)).text


async def test_path_that_only_begins_like_the_mount_is_not_below_it(dashboard: Dashboard) -> None:
    async with asgi_client(dashboard, "/out") as client:
        assert (await client.get("/outbox")).status_code == 404


async def test_mounted_dashboard_needs_no_lifespan_and_takes_part_in_one(dashboard: Dashboard) -> None:
    received = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await dashboard({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_websocket_is_closed(dashboard: Dashboard) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Awaitable[Any]:
        raise AssertionError

    await dashboard({"type": "websocket"}, receive, send)
    assert sent == ["websocket.close"]


async def test_aiohttp_application_at_the_root(dashboard: Dashboard) -> None:
    async with serve_aiohttp(dashboard.aiohttp_app()) as client:
        assert "<h1" in (await client.get("/")).text
        assert (await client.get(f"/event?id={quote('nothing/here', safe='')}")).status_code == 404


@pytest.mark.parametrize("mount", [in_fastapi, in_aiohttp])
async def test_headers_that_come_twice_are_joined(bus: OutboxEventBus, mount: Open) -> None:
    seen: list[Request] = []

    def authorize(request: Request) -> None:
        seen.append(request)

    headers = [("Cookie", "a=1"), ("Cookie", "b=2"), ("X-User", "ada"), ("x-user", "root")]
    async with mount(outbox_dashboard(bus, authorize=authorize)) as client:
        assert (await client.get("/admin/outbox/", headers=headers)).status_code == 403
    assert seen[0].cookies == {"a": "1", "b": "2"}
    assert seen[0].headers["x-user"] == "ada, root"
