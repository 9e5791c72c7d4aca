"""A FastAPI service with the dashboard of its outbox at /outbox/, its health at /readyz, and its metrics at /metrics.

    OUTBOX_ENDPOINT=http://localhost:8000 OUTBOX_CREATE_TABLE=1 uvicorn examples.dashboard_app:app

A login proxy in front of the service, such as oauth2-proxy, says who asks. Let nobody reach the service around it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from dynamodb_outbox.integrations.fastapi import health_routes
from dynamodb_outbox.integrations.opentelemetry import instrument
from dynamodb_outbox.web import OPERATOR, VIEWER, Access, Request, outbox_dashboard

ON_CALL = frozenset(os.environ.get("ON_CALL", "ada@example.org").split(","))


def authorize(request: Request) -> Access | None:
    user = request.headers.get("x-forwarded-email")
    if user is None:
        return None
    return Access(user, OPERATOR if user in ON_CALL else VIEWER)


def show(app: FastAPI, bus: OutboxEventBus) -> None:
    """Mount all that people and programs see of an outbox. The dashboard borrows the bus, and starts nothing."""
    app.mount("/outbox", outbox_dashboard(bus, authorize=authorize, environment=os.environ.get("ENVIRONMENT")))
    app.routes.extend(health_routes(bus))
    instrument(bus, meter_provider=MeterProvider([PrometheusMetricReader(scope_info_enabled=False)]))
    app.add_route("/metrics", lambda request: Response(generate_latest(), media_type=CONTENT_TYPE_LATEST))


async def welcome(event: Event) -> None:
    print(f"Welcome, {event.payload['name']}!")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with DynamoDBOutbox.connect(
        table_name=os.environ.get("OUTBOX_TABLE", "events-outbox"),
        region_name=os.environ.get("AWS_REGION"),
        endpoint_url=os.environ.get("OUTBOX_ENDPOINT"),
    ) as outbox:
        if os.environ.get("OUTBOX_CREATE_TABLE") == "1":
            await outbox.create_table()
        bus = OutboxEventBus(outbox)
        bus.on("user.created", welcome)
        show(app, bus)
        async with bus:
            yield


app = FastAPI(title="Users", lifespan=lifespan)
