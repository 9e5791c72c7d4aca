"""The aiohttp example on a real server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples.aiohttp_app import BUS, MAILER, create_app
from tests.examples.serving import eventually

ADA = {"name": "Ada", "email": "ada@example.org"}
BLOCKED = {"name": "Mallory", "email": "mallory@blocked.example"}


@pytest.fixture
async def http(settings: None) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(create_app())) as http:
        yield http


async def post_user(http: TestClient, user: dict[str, str]) -> dict[str, str]:
    async with http.post("/users", json=user) as response:
        assert response.status == 201
        return await response.json()


async def get(http: TestClient, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200
        return await response.json()


async def test_a_created_user_is_welcomed(http: TestClient) -> None:
    ada = await post_user(http, ADA)
    assert await eventually(lambda: get(http, f"/users/{ada['id']}/mails")) == ["Welcome, Ada!"]
    assert await get(http, "/users/nobody/mails") == []
    assert await get(http, "/dead-letters") == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/users", b"no JSON", 400),
        ("/users", b'{"name": "Ada", "email": "nowhere"}', 422),
        ("/users", b'{"name": "Ada"}', 422),
        ("/users", b'{"name": "\\ud800", "email": "ada@example.org"}', 422),
        ("/users", b'{"name": "%s", "email": "ada@example.org"}' % (500_000 * b"a"), 422),
        ("/dead-letters/retry", b'{"ids": "one"}', 422),
        ("/dead-letters/retry", b'{"ids": [1]}', 422),
    ],
    ids=["no-json", "no-email", "missing-email", "no-unicode", "too-large", "no-list", "no-texts"],
)
async def test_a_bad_body_is_refused(http: TestClient, path: str, body: bytes, status: int) -> None:
    async with http.post(path, data=body) as response:
        assert response.status == status
    assert await get(http, "/dead-letters") == []


async def test_a_dead_letter_is_shown_and_retried(http: TestClient) -> None:
    mallory = await post_user(http, BLOCKED)
    [letter] = await eventually(lambda: get(http, "/dead-letters"))
    assert letter["id"] == mallory["event_id"]
    assert letter["payload"] == {"id": mallory["id"], **BLOCKED}
    assert "blocked.example is blocked" in letter["last_error"]
    assert await get(http, f"/users/{mallory['id']}/mails") == []

    http.app[MAILER].blocked_domains.clear()
    async with http.post("/dead-letters/retry", json={"ids": [letter["id"], "unknown"]}) as response:
        assert await response.json() == {"retried": 1}
    await http.app[BUS].drain(timeout=120)
    assert await get(http, f"/users/{mallory['id']}/mails") == ["Welcome, Mallory!"]
    assert await get(http, "/dead-letters") == []


async def test_probes_follow_the_bus(http: TestClient) -> None:
    for path in ("/livez", "/readyz", "/health"):
        assert await get(http, path) == {"status": "pass"}
    await http.app[BUS].stop()
    assert await get(http, "/livez") == {"status": "pass"}
    for path in ("/readyz", "/health"):
        async with http.get(path) as response:
            assert (response.status, await response.json()) == (503, {"status": "fail"})


async def test_an_outbox_without_its_table_is_unavailable(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTBOX_CREATE_TABLE")
    async with TestClient(TestServer(create_app())) as http, http.post("/users", json=ADA) as response:
        assert response.status == 503


async def test_the_cleanup_stops_the_bus(settings: None) -> None:
    tasks = asyncio.all_tasks()
    async with TestClient(TestServer(create_app())) as http:
        bus = http.app[BUS]
        assert bus.running
    assert not bus.running
    assert asyncio.all_tasks() == tasks
