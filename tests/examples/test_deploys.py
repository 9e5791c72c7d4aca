"""A deploy, as the platform sees it: SIGTERM to a service with handlers running, and another worker up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from dynamodb_outbox import Delivery, DynamoDBOutbox, Event, OutboxEventBus

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "examples.fastapi_app:app", "--port", "{port}"],
    "aiohttp": ["-m", "examples.aiohttp_app"],
}


async def eventually(look: Callable[[], Awaitable[Any]], *, within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not await look():
            await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("runner", COMMANDS)
async def test_running_handlers_finish_and_the_rest_goes_to_another_worker_at_once(
    moto_endpoint: str, moto_client: Any, table_name: str, runner: str
) -> None:
    port = free_port()
    # A handler takes three seconds, and a stop two: the first mail has begun early enough, the second has not.
    environment = {
        "OUTBOX_ENDPOINT": moto_endpoint, "OUTBOX_TABLE": table_name, "OUTBOX_CREATE_TABLE": "1",
        "MAIL_SECONDS": "3", "STOP_SECONDS": "2", "PORT": str(port),
    }  # fmt: skip
    server = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, *(part.format(port=port) for part in COMMANDS[runner])],
        cwd=ROOT,
        env=os.environ | environment,
    )
    other = OutboxEventBus(DynamoDBOutbox(moto_client, table_name=table_name, poll_interval=0.2))
    taken: list[tuple[str, int, float]] = []

    async def welcome(event: Event, delivery: Delivery) -> None:
        taken.append((event.id, delivery.attempt, monotonic()))

    async def log_user(event: Event) -> None:
        raise AssertionError("it had succeeded in the process that stopped")

    other.on("user.created", welcome, name="Mailer.welcome")
    if runner == "uvicorn":
        other.on("user.created", log_user, name="log_user")

    async def item(event_id: str) -> dict[str, Any]:
        reply = await moto_client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
        return reply["Item"]

    async def post(http: httpx.AsyncClient, name: str) -> str:
        response = await http.post("/users", json={"name": name, "email": f"{name}@example.org"})
        event_id: str = response.json()["event_id"]

        async def claimed() -> bool:
            return (await item(event_id))["status"] == {"S": "PROCESSING"}

        await eventually(claimed)
        return event_id

    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def healthy() -> bool:
                assert server.poll() is None
                try:
                    return (await http.get("/health")).is_success
                except httpx.TransportError:
                    return False

            await eventually(healthy)
            first = await post(http, "first")
            await asyncio.sleep(1.5)
            second = await post(http, "second")
        async with other:
            server.send_signal(signal.SIGTERM)
            signalled = monotonic()
            await asyncio.to_thread(server.wait, timeout=15)
            await other.drain(15)
    finally:
        server.kill()
        server.wait()
    ((event_id, attempt, at),) = taken
    assert (event_id, attempt) == (second, 1)
    # The lease of 30 s would have run out much later.
    assert at - signalled < 10
    for event_id in (first, second):
        stored = await item(event_id)
        assert (stored["status"], stored["retryCount"]) == ({"S": "COMPLETED"}, {"N": "0"})
