"""The dashboard as an ASGI application, to be mounted in FastAPI, Starlette and others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dynamodb_outbox.web.http import MAX_BODY, TEXT, Request, Response, headers_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handle = Callable[[Request], Awaitable[Response]]


async def answer(handle: Handle, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request. A mounted application gets no lifespan events, so nothing depends on them."""
    if scope["type"] == "lifespan":
        await _ignore_lifespan(receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    elif (body := await _read(receive)) is None:
        await _send(Response.of("the request is too long", TEXT, status=413), send)
    else:
        await _send(await handle(_request(scope, body)), send)


def _request(scope: Scope, body: bytes) -> Request:
    mount: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    # The path has the root path since ASGI 3; some servers and proxies leave it out.
    if mount and (path == mount or path.startswith(f"{mount}/")):
        path = path[len(mount) :]
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=path,
        query_string=scope.get("query_string", b"").decode("latin-1"),
        headers=headers_of((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        body=body,
        scheme=scope.get("scheme", "http"),
        mount=mount,
        client=client[0] if client else None,
        native=scope,
    )


async def _read(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(response: Response, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in response.headers.items()]
    if isinstance(response.body, bytes):
        headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
        return
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for part in response.body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _ignore_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
