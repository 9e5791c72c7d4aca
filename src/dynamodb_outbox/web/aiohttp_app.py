"""The dashboard as an aiohttp application, to be added with `add_subapp`."""

from __future__ import annotations

from aiohttp import web

from dynamodb_outbox.web.asgi import Handle
from dynamodb_outbox.web.http import MAX_BODY, TEXT, Request, Response, headers_of


def aiohttp_application(handle: Handle) -> web.Application:
    """Make an application with one route that takes every path and method."""

    async def answer(native: web.Request) -> web.StreamResponse:
        try:
            body = await native.read()
        except web.HTTPRequestEntityTooLarge:
            return await _send(Response.of("the request is too long", TEXT, status=413), native)
        return await _send(await handle(_request(native, body)), native)

    application = web.Application(client_max_size=MAX_BODY)
    application.router.add_route("*", "", answer)
    application.router.add_route("*", "/{tail:.*}", answer)
    return application


def _request(native: web.Request, body: bytes) -> Request:
    tail = native.match_info.get("tail")
    # Without a tail, the path is the mount itself, or the `/` of an application that is not mounted.
    path = f"/{tail}" if tail is not None else "/" if native.path.endswith("/") else ""
    return Request(
        method=native.method,
        path=path,
        query_string=native.rel_url.raw_query_string,
        headers=headers_of(native.headers.items()),
        body=body,
        scheme=native.scheme,
        mount=native.path.removesuffix(path).rstrip("/"),
        client=native.remote,
        native=native,
    )


async def _send(response: Response, native: web.Request) -> web.StreamResponse:
    if isinstance(response.body, bytes):
        return web.Response(body=response.body, status=response.status, headers=response.headers)
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    await stream.prepare(native)
    async for part in response.body:
        await stream.write(part)
    await stream.write_eof()
    return stream
