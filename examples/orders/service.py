"""A service that takes orders: each change of an order and the event that tells of it are one DynamoDB transaction.

README.md says how to run it. `create.py` makes what it uses, and prints the variables that it reads.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from dynamodb_outbox import (
    DynamoDBOutbox,
    OutboxEventBus,
    StorageError,
    TransactionCancelledError,
)
from dynamodb_outbox.integrations.fastapi import health_routes
from dynamodb_outbox.publishers import EventBridgePublisher, SqsPublisher
from examples.orders.events import OrderCancelled, OrderPaid, OrderPlaced

logger = logging.getLogger("uvicorn.error")
ORDERS = os.environ["ORDERS_TABLE"]
LEASE = float(os.environ.get("LEASE_SECONDS", "30"))  # how long the events of a killed process wait
ONE_ATTEMPT = AioConfig(retries={"mode": "standard", "total_max_attempts": 1})  # the outbox retries, within its lease


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, OutboxEventBus]]:
    session = get_session()
    # The bus is the innermost, so that the clients are open until it has stopped.
    async with (
        session.create_client("sqs", config=ONE_ATTEMPT) as sqs,
        session.create_client("events", config=ONE_ATTEMPT) as events,
        DynamoDBOutbox.connect(table_name=os.environ["OUTBOX_TABLE"], processing_timeout=LEASE) as outbox,
    ):
        queue = SqsPublisher(queue_url=os.environ["QUEUE_URL"], client=sqs, source="/orders")
        event_bus = EventBridgePublisher(
            bus_name=os.environ["EVENT_BUS"], client=events, source="orders", format="cloudevents"
        )
        await asyncio.gather(outbox.verify_table(), queue.verify(), event_bus.verify())
        bus = OutboxEventBus(outbox, stop_timeout=20)
        # A publisher tries for an hour. Meanwhile the other events of an order wait, so that none overtakes.
        # The table stores these names: they stay, whatever the variables are called.
        bus.on_any(queue, name="queue")
        bus.on_any(event_bus, name="event-bus")
        async with bus:
            yield {"bus": bus}


def bus_of(request: Request) -> OutboxEventBus:
    bus: OutboxEventBus = request.state.bus
    return bus


Bus = Annotated[OutboxEventBus, Depends(bus_of)]
app = FastAPI(title="Orders", lifespan=lifespan)
app.routes.extend(health_routes(bus_of))


class NewOrder(BaseModel):
    customer: str = Field(min_length=1, max_length=200)
    cents: int = Field(gt=0, le=100_000_000)


class Order(NewOrder):
    id: str


@app.exception_handler(StorageError)
@app.exception_handler(TransactionCancelledError)  # other transactions wrote the same order for ten seconds
async def not_stored(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s", error)
    return JSONResponse({"detail": "try again"}, status_code=503, headers={"Retry-After": "1"})


def found_instead(error: TransactionCancelledError) -> Mapping[str, Any] | None:
    """Return the order that is stored, if a condition was false for it; raise any other error again."""
    for reason in error.reasons:
        if reason.code == "ConditionalCheckFailed":
            return reason.item
    raise error


@app.post("/orders", status_code=201)
async def place(
    new: NewOrder, bus: Bus, idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None
) -> Order:
    # One customer's key is never another's.
    name = None if idempotency_key is None else f"{new.customer}\n{idempotency_key}"
    order = Order(id=str(uuid4() if name is None else uuid5(NAMESPACE_URL, name)), **new.model_dump())
    try:
        async with bus.transaction() as tx:
            tx.put(
                TableName=ORDERS,
                Item={**order.model_dump(), "status": "placed"},
                ConditionExpression="attribute_not_exists(id)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            tx.emit(OrderPlaced(order=order.id, **new.model_dump()), ordering_key=order.id)
    except TransactionCancelledError as error:
        stored = found_instead(error)
        if stored is None or stored["cents"]["N"] != str(order.cents):
            raise HTTPException(422, "this Idempotency-Key was used for another order") from None
    return order


@app.post("/orders/{order}/payment")
async def pay(order: str, bus: Bus) -> dict[str, str]:
    return await change(bus, order, "paid", OrderPaid(order=order))


@app.post("/orders/{order}/cancellation")
async def cancel(order: str, bus: Bus) -> dict[str, str]:
    return await change(bus, order, "cancelled", OrderCancelled(order=order))


async def change(bus: OutboxEventBus, order: str, status: str, event: BaseModel) -> dict[str, str]:
    """Give a placed order another status, and tell of it. A repeat answers the same, and tells nothing."""
    try:
        async with bus.transaction() as tx:
            tx.update(
                TableName=ORDERS,
                Key={"id": order},
                UpdateExpression="SET #status = :new",
                ConditionExpression="#status = :placed",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":new": status, ":placed": "placed"},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
            tx.emit(event, ordering_key=order)
    except TransactionCancelledError as error:
        if (stored := found_instead(error)) is None:
            raise HTTPException(404, "there is no such order") from None
        if (found := stored["status"]["S"]) != status:
            raise HTTPException(409, f"the order is {found}") from None
    return {"id": order, "status": status}
