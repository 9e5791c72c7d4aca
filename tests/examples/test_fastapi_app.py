"""The FastAPI example, through HTTP: in this process with its lifespan, and under uvicorn with signals."""

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

import httpx
import pytest
from asgi_lifespan import LifespanManager

from examples.fastapi_app import Mailer, app

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
async def manager(settings: None) -> AsyncIterator[LifespanManager]:
    async with LifespanManager(app) as manager:
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


async def test_health_follows_the_bus(http: httpx.AsyncClient, manager: LifespanManager) -> None:
    assert await get(http, "/health") == {"running": True}
    await manager._state["bus"].stop()
    response = await http.get("/health")
    assert (response.status_code, response.json()) == (503, {"running": False})


async def test_an_outbox_without_its_table_is_unavailable(
    settings: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("OUTBOX_CREATE_TABLE")
    async with LifespanManager(app) as manager:
        transport = httpx.ASGITransport(manager.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://example") as http:
            response = await http.post("/users", json=ADA)
    assert response.status_code == 503
    assert "does not exist" in caplog.text


async def test_the_lifespan_stops_the_bus_and_can_be_entered_again(settings: None) -> None:
    tasks = asyncio.all_tasks()
    for _ in range(2):
        async with LifespanManager(app) as manager:
            bus = manager._state["bus"]
            assert bus.running
        assert not bus.running
        assert asyncio.all_tasks() == tasks


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_uvicorn_lets_a_running_handler_finish(
    settings: None, moto_client: Any, table_name: str, stop_signal: signal.Signals
) -> None:
    port = free_port()
    server = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-m", "uvicorn", "examples.fastapi_app:app", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"MAIL_SECONDS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def healthy() -> bool:
                assert server.poll() is None
                try:
                    return (await http.get("/health")).is_success
                except httpx.TransportError:
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
    assert "Application shutdown complete" in output
    assert "Traceback" not in output
    assert await status() == "COMPLETED"
    # After an orderly end uvicorn raises the signal it caught once more; Python has a handler for SIGINT only.
    assert server.returncode in ([0] if stop_signal is signal.SIGINT else [0, -signal.SIGTERM])
