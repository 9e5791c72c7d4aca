"""A FastAPI service with an outbox: the bus lives exactly as long as the application.

    OUTBOX_ENDPOINT=http://localhost:8000 OUTBOX_CREATE_TABLE=1 uvicorn examples.fastapi_app:app

Without OUTBOX_ENDPOINT the table is in AWS. Credentials and region are found as the AWS SDK finds them; an
emulator takes any, such as AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_REGION=us-east-1.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Body, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from dynamodb_outbox import DynamoDBOutbox, Event, FailedEvent, OutboxEventBus, Reject, StorageError
from dynamodb_outbox.integrations.fastapi import health_routes

logger = logging.getLogger("uvicorn.error")  # shown by uvicorn without further configuration


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


async def log_user(event: Event) -> None:
    logger.info("%s: %s", event.type, event.payload["id"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with DynamoDBOutbox.connect(
        table_name=os.environ.get("OUTBOX_TABLE", "events-outbox"),
        region_name=os.environ.get("AWS_REGION"),  # the SDK itself looks at AWS_DEFAULT_REGION only
        endpoint_url=os.environ.get("OUTBOX_ENDPOINT"),
    ) as outbox:
        if os.environ.get("OUTBOX_CREATE_TABLE") == "1":
            await outbox.create_table()
        # MAIL_SECONDS=5 shows how a shutdown waits for the handlers that run.
        mailer = Mailer(seconds=float(os.environ.get("MAIL_SECONDS", "0")))
        # Well within what the platform grants after its SIGTERM (ECS and Kubernetes: 30 s). What still runs then is
        # released, and another worker takes it at once.
        bus = OutboxEventBus(outbox, stop_timeout=float(os.environ.get("STOP_SECONDS", "20")))
        bus.on("user.created", mailer.welcome)
        bus.on("user.created", log_user)
        async with bus:
            yield {"bus": bus, "mailer": mailer}


def bus_of(request: Request) -> OutboxEventBus:
    bus: OutboxEventBus = request.state.bus
    return bus


Bus = Annotated[OutboxEventBus, Depends(bus_of)]
app = FastAPI(title="Users", lifespan=lifespan)


class NewUser(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)


@app.exception_handler(StorageError)
async def not_stored(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s", error)
    return JSONResponse({"detail": "the outbox is not available, try again"}, status_code=503)


@app.post("/users", status_code=201)
async def create_user(user: NewUser, bus: Bus) -> dict[str, str]:
    user_id = str(uuid4())
    event = Event("user.created", {"id": user_id, **user.model_dump()})
    await bus.emit(event)
    return {"id": user_id, "event_id": event.id}


@app.get("/users/{user_id}/mails")
async def mails(user_id: str, request: Request) -> list[str]:
    mailer: Mailer = request.state.mailer
    return mailer.mails_to(user_id)


@app.get("/dead-letters")
async def dead_letters(bus: Bus) -> list[FailedEvent]:
    return await bus.get_failed_events()


@app.post("/dead-letters/retry")
async def retry(ids: Annotated[list[str], Body(embed=True)], bus: Bus) -> dict[str, int]:
    return {"retried": len((await bus.retry_events(ids)).done)}


# For the probes of the platform: /livez, /readyz and /health.
app.routes.extend(health_routes(bus_of))
