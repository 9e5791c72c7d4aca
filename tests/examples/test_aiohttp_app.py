"""The aiohttp example on a real server: in this process, and as a process of its own with signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples.aiohttp_app import BUS, MAILER, create_app

ROOT = Path(__file__).parents[2]
ADA = {"name": "Ada", "email": "ada@example.org"}
BLOCKED = {"name": "Mallory", "email": "mallory@blocked.example"}


async def eventually(look: Callable[[], Awaitable[Any]], *, within: float = 20.0) -> Any:
    """Look again until the answer is truthy."""
    async with asyncio.timeout(within):
        while not (answer := await look()):
            await asyncio.sleep(0.02)
    return answer


@pytest.fixture
def settings(moto_endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOX_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("OUTBOX_TABLE", table_name)
    monkeypatch.setenv("OUTBOX_CREATE_TABLE", "1")


@pytest.fixture
async def http(settings: None) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(create_app())) as http:
        yield http


async def post_user(http: TestClient | aiohttp.ClientSession, user: dict[str, str]) -> dict[str, str]:
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
    await http.app[BUS].drain(timeout=20)
    assert await get(http, f"/users/{mallory['id']}/mails") == ["Welcome, Mallory!"]
    assert await get(http, "/dead-letters") == []


async def test_health_follows_the_bus(http: TestClient) -> None:
    assert await get(http, "/health") == {"running": True}
    await http.app[BUS].stop()
    async with http.get("/health") as response:
        assert (response.status, await response.json()) == (503, {"running": False})


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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_lets_a_running_handler_finish(
    settings: None, moto_client: Any, table_name: str, stop_signal: signal.Signals
) -> None:
    port = free_port()
    server = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-m", "examples.aiohttp_app"],
        cwd=ROOT,
        env=os.environ | {"MAIL_SECONDS": "1", "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

            async def healthy() -> bool:
                assert server.poll() is None
                try:
                    async with http.get("/health") as response:
                        return response.ok
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(healthy)
            event_id = (await post_user(http, ADA))["event_id"]

        async def status() -> str:
            reply = await moto_client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
            return reply["Item"]["status"]["S"]

        async def handled() -> bool:
            return await status() != "PENDING"

        await eventually(handled)
        server.send_signal(stop_signal)
        output, _ = await asyncio.to_thread(server.communicate, timeout=20)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0
    assert "Traceback" not in output
    assert await status() == "COMPLETED"
