"""The examples as processes of their own, and waiting for what they do."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from asgi_lifespan import LifespanManager

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "examples.fastapi_app:app", "--port", "{port}"],
    "aiohttp": ["-m", "examples.aiohttp_app"],
}
"""The services that create users."""
OTHERS = {
    "dashboard": ["-m", "uvicorn", "examples.dashboard_app:app", "--port", "{port}"],
    "orders": ["-m", "uvicorn", "examples.orders.service:app", "--port", "{port}"],
}


async def eventually(look: Callable[[], Awaitable[Any]], *, within: float = 120.0) -> Any:
    """Look again until the answer is truthy."""
    async with asyncio.timeout(within):
        while not (answer := await look()):
            await asyncio.sleep(0.02)
    return answer


def lifespan(app: Any) -> LifespanManager:
    """Start an application in this process, and stop it at the end of the block, on a busy machine also slowly."""
    return LifespanManager(app, startup_timeout=120, shutdown_timeout=120)


@asynccontextmanager
async def serving(runner: str, **environment: str) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    """Serve an example until the end of the block; yields its process, once it is healthy, and its address."""
    port = free_port()
    server = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, *(part.format(port=port) for part in (COMMANDS | OTHERS)[runner])],
        cwd=ROOT,
        env=os.environ | environment | {"PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url) as http:

            async def healthy() -> bool:
                assert server.poll() is None
                try:
                    return (await http.get("/health")).is_success
                except httpx.TransportError:
                    return False

            await eventually(healthy)
        yield server, url
    finally:
        server.kill()
        server.communicate()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def ended(server: subprocess.Popen[str], *, within: float = 120.0) -> str:
    """Wait for the end of a process; returns what it wrote."""
    output, _ = await asyncio.to_thread(server.communicate, timeout=within)
    return output
