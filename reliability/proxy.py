"""A proxy in front of a backend: it records every request, and injects faults that a backend cannot be asked for."""

from __future__ import annotations

import inspect
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

CUT_BEFORE = "cut before"
"""Close the connection without forwarding the request."""
CUT_AFTER = "cut after"
"""Forward the request, and close the connection without a response."""
RESET_AFTER = "reset after"
"""Forward the request, and reset the connection (RST)."""


@dataclass
class Reply:
    """A response from the proxy instead of the backend. Its bytes may be invalid JSON."""

    status: int
    body: dict[str, Any] | bytes


@dataclass
class Recorded:
    """A request as it came."""

    operation: str
    body: dict[str, Any]


Rule = Callable[[Recorded], Any]
"""Returns None to forward the request, CUT_BEFORE, CUT_AFTER, RESET_AFTER, a `Reply`, an awaitable of such a value,
or a function that changes the response of the backend."""


@dataclass
class Proxy:
    """A running proxy: its endpoint, its requests, and its rules."""

    endpoint: str = ""
    requests: list[Recorded] = field(default_factory=list)
    rule: Rule = lambda request: None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Headers of all responses, such as another `Date`."""

    def operations(self) -> list[str]:
        """List the operations, in the order of the requests."""
        return [request.operation for request in self.requests]

    def of(self, operation: str) -> list[dict[str, Any]]:
        """List the bodies of the requests of an operation."""
        return [request.body for request in self.requests if request.operation == operation]

    def count(self, operation: str) -> int:
        """Count the requests of an operation."""
        return len(self.of(operation))


@asynccontextmanager
async def running_proxy(target: str) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port, in front of a backend."""
    proxy = Proxy()
    async with ClientSession() as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            data = await request.read()
            recorded = Recorded(request.headers["X-Amz-Target"].rpartition(".")[2], json.loads(data))
            proxy.requests.append(recorded)
            action = proxy.rule(recorded)
            if inspect.isawaitable(action):
                action = await action
            if isinstance(action, Reply):
                body = action.body
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                return _reply(action.status, text, proxy.headers)
            if action == CUT_BEFORE:
                # The client does not get this response, but the server needs one.
                _cut(request)
                return web.Response()
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() in ("x-amz-target", "content-type", "authorization", "x-amz-date")
            }
            async with session.post(target, data=data, headers=headers) as response:
                body, status = await response.read(), response.status
            if action in (CUT_AFTER, RESET_AFTER):
                _cut(request, reset=action == RESET_AFTER)
            if callable(action):
                body = json.dumps(action(json.loads(body))).encode()
            return _reply(status, body, proxy.headers)

        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/", handle)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        proxy.endpoint = f"http://127.0.0.1:{port}"
        try:
            yield proxy
        finally:
            await runner.cleanup()


def _cut(request: web.Request, *, reset: bool = False) -> None:
    if request.transport is None:
        return  # the caller has gone away
    if reset:
        # No lingering: the peer sees "connection reset by peer".
        linger = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.transport.close()


def _reply(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    content_type = {"Content-Type": "application/x-amz-json-1.0"}
    return web.Response(status=status, body=body, headers=content_type | headers)


def refused(code: str, message: str = "", status: int = 400) -> Reply:
    """An error as DynamoDB sends it."""
    return Reply(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message})


def nth(count: int, operation: str, action: Any) -> Rule:
    """Apply an action to the n-th request of an operation, counted from 1, and forward all other requests."""
    seen = 0

    def rule(request: Recorded) -> Any:
        nonlocal seen
        if request.operation != operation:
            return None
        seen += 1
        return action if seen == count else None

    return rule
