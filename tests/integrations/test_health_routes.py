"""The health routes of the web frameworks: their codes and their bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI
from starlette.applications import Starlette

from dynamodb_outbox import ConfigurationError, OutboxEventBus
from dynamodb_outbox.integrations import aiohttp as for_aiohttp
from dynamodb_outbox.integrations import fastapi as for_fastapi
from tests.fakes import ScriptedOutbox, quick_outbox

BUS = web.AppKey("bus", OutboxEventBus)
Asking = Callable[[OutboxEventBus], Awaitable[dict[str, tuple[int, Any]]]]
"""Asks every route of a bus; returns the status codes and bodies."""


@pytest.fixture
def outbox() -> ScriptedOutbox:
    return quick_outbox()


@pytest.fixture
def bus(outbox: ScriptedOutbox) -> OutboxEventBus:
    return OutboxEventBus(outbox)


async def ask_asgi(app: Any) -> dict[str, tuple[int, Any]]:
    answers: dict[str, tuple[int, Any]] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pod") as http:
        for path in ("/livez", "/readyz", "/health", "/inside/health"):
            response = await http.get(path)
            assert response.headers["content-type"] == "application/health+json"
            assert response.headers["cache-control"] == "no-store"
            assert (await http.head(path)).status_code == response.status_code
            answers[path] = response.status_code, response.json()
    return answers


async def ask_fastapi(bus: OutboxEventBus) -> dict[str, tuple[int, Any]]:
    app = FastAPI()
    app.state.bus = bus
    app.routes.extend(for_fastapi.health_routes(bus))
    app.routes.extend(for_fastapi.health_routes(lambda request: request.app.state.bus, details=True, prefix="/inside"))
    assert app.openapi()["paths"] == {}
    return await ask_asgi(app)


async def ask_starlette(bus: OutboxEventBus) -> dict[str, tuple[int, Any]]:
    inside = for_fastapi.health_routes(bus, details=True, prefix="/inside")
    return await ask_asgi(Starlette(routes=[*for_fastapi.health_routes(bus), *inside]))


async def ask_aiohttp(bus: OutboxEventBus) -> dict[str, tuple[int, Any]]:
    app = web.Application()
    app[BUS] = bus
    app.add_routes(for_aiohttp.health_routes(bus))
    app.add_routes(for_aiohttp.health_routes(lambda request: request.app[BUS], details=True, prefix="/inside"))
    answers: dict[str, tuple[int, Any]] = {}
    async with TestClient(TestServer(app)) as http:
        for path in ("/livez", "/readyz", "/health", "/inside/health"):
            async with http.get(path) as response:
                assert response.content_type == "application/health+json"
                assert response.headers["cache-control"] == "no-store"
                answers[path] = response.status, await response.json()
    return answers


@pytest.fixture(params=[ask_fastapi, ask_starlette, ask_aiohttp])
def ask(request: pytest.FixtureRequest) -> Asking:
    asking: Asking = request.param
    return asking


async def test_bus_that_is_not_started_is_live_but_not_ready(bus: OutboxEventBus, ask: Asking) -> None:
    answers = await ask(bus)
    inside = answers.pop("/inside/health")
    assert answers == {
        "/livez": (200, {"status": "pass"}),
        "/readyz": (503, {"status": "fail"}),
        "/health": (503, {"status": "fail"}),
    }
    code, told = inside
    assert (code, told["status"], told["live"], told["ready"]) == (503, "fail", True, False)
    assert "await bus.start()" in told["checks"]["worker"][0]["output"]


async def test_bus_that_runs_is_live_and_ready(bus: OutboxEventBus, ask: Asking) -> None:
    async with bus:
        answers = await ask(bus)
    assert {code for code, _ in answers.values()} == {200}
    _, told = answers.pop("/inside/health")
    assert told["checks"]["worker"] == [{"status": "pass"}]
    assert [body for _, body in answers.values()] == [{"status": "pass"}] * 3


async def test_worker_that_was_cancelled_is_not_live(bus: OutboxEventBus, ask: Asking) -> None:
    async with bus:
        worker = bus._lifecycle.worker
        assert worker is not None
        assert worker._task is not None
        worker._task.cancel()
        await asyncio.wait([worker._task])
        answers = await ask(bus)
    assert answers["/livez"] == (503, {"status": "fail"})
    assert answers["/readyz"] == (503, {"status": "fail"})


@pytest.mark.parametrize("routes", [for_fastapi.health_routes, for_aiohttp.health_routes])
@pytest.mark.parametrize("options", [{"prefix": "outbox"}, {"prefix": "/outbox/"}, {"prefix": None}, {"details": 1}])
def test_bad_options_are_refused(bus: OutboxEventBus, routes: Any, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name}="):
        routes(bus, **options)
