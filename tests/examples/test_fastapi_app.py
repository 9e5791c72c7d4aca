"""The FastAPI example, through HTTP, with its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from asgi_lifespan import LifespanManager

from examples.fastapi_app import Mailer, app
from tests.examples.serving import eventually, lifespan

ADA = {"name": "Ada", "email": "ada@example.org"}
BLOCKED = {"name": "Mallory", "email": "mallory@blocked.example"}


@pytest.fixture
async def manager(settings: None) -> AsyncIterator[LifespanManager]:
    async with lifespan(app) as manager:
        yield manager


@pytest.fixture
async def http(manager: LifespanManager) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url="http://example") as http:
        yield http


async def post_user(http: httpx.AsyncClient, user: dict[str, str]) -> dict[str, str]:
    response = await http.post("/users", json=user)
    assert response.status_code == 201
    return response.json()


async def get(http: httpx.AsyncClient, path: str) -> Any:
    response = await http.get(path)
    assert response.status_code == 200
    return response.json()


async def test_a_created_user_is_welcomed(http: httpx.AsyncClient) -> None:
    ada = await post_user(http, ADA)
    assert await eventually(lambda: get(http, f"/users/{ada['id']}/mails")) == ["Welcome, Ada!"]
    assert await get(http, "/users/nobody/mails") == []
    assert await get(http, "/dead-letters") == []


async def test_a_bad_user_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("/users", json={"name": "Ada", "email": "nowhere"})
    assert response.status_code == 422


async def test_a_dead_letter_is_shown_and_retried(http: httpx.AsyncClient, manager: LifespanManager) -> None:
    mallory = await post_user(http, BLOCKED)
    [letter] = await eventually(lambda: get(http, "/dead-letters"))
    assert letter["id"] == mallory["event_id"]
    assert letter["payload"] == {"id": mallory["id"], **BLOCKED}
    assert "blocked.example is blocked" in letter["last_error"]
    assert letter["handled_by"] == ["log_user"]
    assert await get(http, f"/users/{mallory['id']}/mails") == []

    mailer: Mailer = manager._state["mailer"]
    mailer.blocked_domains.clear()
    response = await http.post("/dead-letters/retry", json={"ids": [letter["id"], "unknown"]})
    assert response.json() == {"retried": 1}
    assert await eventually(lambda: get(http, f"/users/{mallory['id']}/mails")) == ["Welcome, Mallory!"]
    assert await get(http, "/dead-letters") == []


async def test_probes_follow_the_bus(http: httpx.AsyncClient, manager: LifespanManager) -> None:
    for path in ("/livez", "/readyz", "/health"):
        assert await get(http, path) == {"status": "pass"}
    await manager._state["bus"].stop()
    assert await get(http, "/livez") == {"status": "pass"}
    for path in ("/readyz", "/health"):
        response = await http.get(path)
        assert (response.status_code, response.json()) == (503, {"status": "fail"})


async def test_an_outbox_without_its_table_is_unavailable(
    settings: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OUTBOX_CREATE_TABLE")
    async with lifespan(app) as manager:
        transport = httpx.ASGITransport(manager.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://example") as http:
            response = await http.post("/users", json=ADA)
    assert response.status_code == 503
    assert "does not exist" in caplog.text


async def test_the_lifespan_stops_the_bus_and_can_be_entered_again(settings: None) -> None:
    tasks = asyncio.all_tasks()
    for _ in range(2):
        async with lifespan(app) as manager:
            bus = manager._state["bus"]
            assert bus.running
        assert not bus.running
        assert asyncio.all_tasks() == tasks
