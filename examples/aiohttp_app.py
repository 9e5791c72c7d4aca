"""An aiohttp service with an outbox: client and bus are cleanup contexts of the application.

    OUTBOX_ENDPOINT=http://localhost:8000 OUTBOX_CREATE_TABLE=1 python -m examples.aiohttp_app

Without OUTBOX_ENDPOINT the table is in AWS. Credentials and region are found as the AWS SDK finds them; an
emulator takes any, such as AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_REGION=us-east-1.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

from dynamodb_outbox import DynamoDBOutbox, Event, InvalidEventError, OutboxEventBus, Reject, StorageError
from dynamodb_outbox.integrations.aiohttp import health_routes


class Mailer:
    """Stands in for a mail service, and keeps the mails in memory: each process knows its own only."""

    def __init__(self, *, seconds: float) -> None:
        self.blocked_domains = {"blocked.example"}
        self._seconds = seconds
        self._mails: dict[str, dict[str, str]] = {}

    async def welcome(self, event: Event) -> None:
        user = event.payload
        domain = user["email"].rpartition("@")[2]
        if domain in self.blocked_domains:
            raise Reject(f"{domain} is blocked")  # any other exception would be retried
        await asyncio.sleep(self._seconds)
        # Delivery is at-least-once; keyed by the event's id, a second delivery changes nothing.
        self._mails.setdefault(user["id"], {})[event.id] = f"Welcome, {user['name']}!"

    def mails_to(self, user_id: str) -> list[str]:
        return list(self._mails.get(user_id, {}).values())


OUTBOX = web.AppKey("outbox", DynamoDBOutbox)
BUS = web.AppKey("bus", OutboxEventBus)
MAILER = web.AppKey("mailer", Mailer)


async def outbox_context(app: web.Application) -> AsyncIterator[None]:
    async with DynamoDBOutbox.connect(
        table_name=os.environ.get("OUTBOX_TABLE", "events-outbox"),
        region_name=os.environ.get("AWS_REGION"),  # the SDK itself looks at AWS_DEFAULT_REGION only
        endpoint_url=os.environ.get("OUTBOX_ENDPOINT"),
    ) as outbox:
        if os.environ.get("OUTBOX_CREATE_TABLE") == "1":
            await outbox.create_table()
        app[OUTBOX] = outbox
        yield


async def bus_context(app: web.Application) -> AsyncIterator[None]:
    # MAIL_SECONDS=5 shows how a shutdown waits for the handlers that run.
    app[MAILER] = Mailer(seconds=float(os.environ.get("MAIL_SECONDS", "0")))
    # Well within what the platform grants after its SIGTERM (ECS and Kubernetes: 30 s). What still runs then is
    # released, and another worker takes it at once.
    app[BUS] = OutboxEventBus(app[OUTBOX], stop_timeout=float(os.environ.get("STOP_SECONDS", "20")))
    app[BUS].on("user.created", app[MAILER].welcome)
    async with app[BUS]:
        yield


@web.middleware
async def outbox_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidEventError as error:  # too large for one item, or a text that is no Unicode
        return web.json_response({"detail": str(error)}, status=422)
    except StorageError:
        return web.json_response({"detail": "the outbox is not available, try again"}, status=503)


async def create_user(request: web.Request) -> web.Response:
    match await body_of(request):
        case {"name": str(name), "email": str(email)} if name and "@" in email:
            user = {"id": str(uuid4()), "name": name, "email": email}
        case _:
            raise web.HTTPUnprocessableEntity(text="give a name and an email")
    event = Event("user.created", user)
    await request.app[BUS].emit(event)
    return web.json_response({"id": user["id"], "event_id": event.id}, status=201)


async def mails(request: web.Request) -> web.Response:
    return web.json_response(request.app[MAILER].mails_to(request.match_info["id"]))


async def dead_letters(request: web.Request) -> web.Response:
    failed = await request.app[BUS].get_failed_events()
    # Dates become text, and so does what JSON has no word for.
    return web.json_response([asdict(event) for event in failed], dumps=lambda value: json.dumps(value, default=str))


async def retry(request: web.Request) -> web.Response:
    match await body_of(request):
        case {"ids": [*ids]} if all(isinstance(item, str) for item in ids):
            retried = await request.app[BUS].retry_events(ids)
            return web.json_response({"retried": len(retried.done)})
    raise web.HTTPUnprocessableEntity(text="give ids, a list of texts")


async def body_of(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body is no JSON") from error


def create_app() -> web.Application:
    app = web.Application(middlewares=[outbox_errors])
    # Left in reverse order, after the last request: the bus finishes its handlers, then the client closes.
    app.cleanup_ctx.extend([outbox_context, bus_context])
    app.router.add_post("/users", create_user)
    app.router.add_get("/users/{id}/mails", mails)
    app.router.add_get("/dead-letters", dead_letters)
    app.router.add_post("/dead-letters/retry", retry)
    # For the probes of the platform: /livez, /readyz and /health.
    app.add_routes(health_routes(lambda request: request.app[BUS]))
    return app


if __name__ == "__main__":
    # SIGTERM and SIGINT end it in order, with exit code 0.
    web.run_app(create_app(), host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8080")))
