"""The service of orders and its consumer, as processes that are killed, with the moto server as AWS."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from examples.orders.create import create
from reliability.proxy import CUT_AFTER, CUT_BEFORE, Proxy, Recorded, running_proxy
from tests.backends import ENDPOINT, SESSION
from tests.examples.serving import ROOT, ended, eventually, serving
from tests.publishers.queues import Queue

ADA = {"customer": "Ada", "cents": 1999}
README = (ROOT / "examples" / "orders" / "README.md").read_text(encoding="utf-8")
Shipments = dict[str, tuple[str, int]]
"""The status of each order's shipment, and how many parcels left."""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What was created for a test, and what the processes leave there."""

    settings: dict[str, str]
    dynamodb: Any
    sqs: Any

    def queue(self, name: str) -> Queue:
        account = self.settings["QUEUE_URL"].rpartition("/")[0]
        return Queue(self.sqs, f"{account}/{self.settings['EVENT_BUS']}-{name}")

    async def items(self, table: str) -> list[dict[str, Any]]:
        reply = await self.dynamodb.scan(TableName=self.settings[table], ConsistentRead=True)
        items: list[dict[str, Any]] = reply["Items"]
        return items

    async def emitted(self) -> Counter[str]:
        """Count the stored events of each type."""
        return Counter(item["type"]["S"] for item in await self.items("OUTBOX_TABLE") if "payload" in item)

    async def until_shipped(self, expected: Shipments) -> set[str]:
        """Wait until the shipments are as they should be; return the ids of the events that made them so."""

        async def shipped() -> list[dict[str, Any]]:
            items = await self.items("SHIPMENTS_TABLE")
            found = {item["id"]["S"]: (item["status"]["S"], int(item["parcels"]["N"])) for item in items}
            return items if found == expected else []

        return {event for item in await eventually(shipped) for event in item["events"]["SS"]}

    async def send(self, group: str, *bodies: str) -> None:
        """Send messages to the consumer, none of which SQS takes for the repeat of another."""
        for body in bodies:
            await self.sqs.send_message(
                QueueUrl=self.settings["QUEUE_URL"],
                MessageBody=body,
                MessageGroupId=group,
                MessageDeduplicationId=uuid4().hex,
            )


@pytest.fixture
async def shop(moto_endpoint: str, moto_client: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    settings = await create(f"shop-{uuid4().hex[:8]}")
    async with SESSION.create_client("sqs", endpoint_url=moto_endpoint, **ENDPOINT) as sqs:
        # A message that was not handled comes again after a second, in place of thirty.
        await sqs.set_queue_attributes(QueueUrl=settings["QUEUE_URL"], Attributes={"VisibilityTimeout": "1"})
        yield Shop(settings=settings, dynamodb=moto_client, sqs=sqs)


@pytest.fixture
async def aws(moto_endpoint: str) -> AsyncIterator[Proxy]:
    """What the service takes for AWS."""
    async with running_proxy(moto_endpoint) as proxy:
        yield proxy


@contextmanager
def consuming(shop: Shop, **environment: str) -> Iterator[subprocess.Popen[str]]:
    consumer = subprocess.Popen(
        [sys.executable, "-m", "examples.orders.consumer"],
        cwd=ROOT,
        env=os.environ | shop.settings | {"WAIT_SECONDS": "1", "CONCURRENCY": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield consumer
    finally:
        consumer.kill()
        consumer.communicate()


async def ask(url: str, path: str, **options: Any) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=url) as http:
        response = await http.post(path, **options)
    return response.status_code, response.json()


async def place(url: str) -> str:
    status, answer = await ask(url, "/orders", json=ADA)
    assert status == 201, answer
    order: str = answer["id"]
    return order


async def pay(url: str, order: str) -> None:
    assert await ask(url, f"/orders/{order}/payment") == (200, {"id": order, "status": "paid"})


class Hanging:
    """A rule for a proxy: loses the replies of some requests of an operation, and keeps all others for a kill."""

    def __init__(self, operation: str, *, lost: int, after_the_kill: str | None) -> None:
        self.hangs = asyncio.Event()
        self._operation = operation
        self._lost = lost
        self._after_the_kill = after_the_kill
        self._killed = asyncio.Event()

    def __call__(self, request: Recorded) -> Any:
        if request.operation != self._operation:
            return None
        self._lost -= 1
        return CUT_AFTER if self._lost >= 0 else self._hang()

    async def _hang(self) -> str | None:
        self.hangs.set()
        await self._killed.wait()
        return self._after_the_kill

    async def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill a process when it waits for such a reply."""
        await self.hangs.wait()
        process.kill()
        await ended(process)
        self._killed.set()


async def killed_while_it_sends(shop: Shop, aws: Proxy) -> tuple[str, str]:
    """Kill a service of which SQS has a message more than it knows, and gets another one late. Returns its orders."""
    aws.rule = hanging = Hanging("SendMessageBatch", lost=1, after_the_kill=None)
    async with serving("orders", **through(aws), **shop.settings) as (service, url):
        paid, late = await place(url), await place(url)
        await pay(url, paid)
        await hanging.kill(service)
    aws.rule = lambda request: None
    return paid, late


async def killed_before_it_deletes(shop: Shop, aws: Proxy) -> None:
    """Kill a consumer between its write and the deletion of the message."""
    aws.rule = hanging = Hanging("DeleteMessage", lost=0, after_the_kill=CUT_BEFORE)
    with consuming(shop, **through(aws)) as consumer:
        await hanging.kill(consumer)
    aws.rule = lambda request: None


def through(aws: Proxy) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": aws.endpoint, "LEASE_SECONDS": "3"}


async def test_an_order_is_shipped_once_whoever_is_killed(shop: Shop, aws: Proxy) -> None:
    paid, late = await killed_while_it_sends(shop, aws)
    await killed_before_it_deletes(shop, aws)
    with consuming(shop) as consumer:
        async with serving("orders", **through(aws), **shop.settings) as (_, url):
            await pay(url, late)
            cancelled = await place(url)
            assert (await ask(url, f"/orders/{cancelled}/cancellation"))[0] == 200
            expected: Shipments = {paid: ("shipped", 1), late: ("shipped", 1), cancelled: ("cancelled", 0)}
            handled = await shop.until_shipped(expected)
            await all_were_told(shop, handled)
            assert await shop.emitted() == {"order.placed": 3, "order.paid": 2, "order.cancelled": 1}
        consumer.kill()
        assert "was handled before" in await ended(consumer)
    of_dynamodb = shop.dynamodb.meta.service_model.operation_names
    asked = {operation.removesuffix("Batch") for operation in aws.operations() if operation not in of_dynamodb}
    assert asked == {action.partition(":")[2] for action in allowed() if not action.startswith("dynamodb:")}


def allowed() -> set[str]:
    """The actions that the policies of the README allow."""
    policies = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", README, re.DOTALL | re.MULTILINE)]
    assert len(policies) == 2
    actions = [statement["Action"] for policy in policies for statement in policy["Statement"]]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


async def all_were_told(shop: Shop, events: set[str]) -> None:
    """Wait until the other team has got the events from EventBridge."""
    audit, told = shop.queue("audit"), set[str]()

    async def are_told() -> bool:
        told.update(json.loads(message["Body"])["detail"]["id"] for message in await audit.receive_all())
        return told == events

    await eventually(are_told)


def cloudevent(event: str, type: str, **data: str) -> str:
    return json.dumps({"specversion": "1.0", "id": event, "source": "/orders", "type": type, "data": data})


async def test_repeats_and_poison_keep_nothing_from_being_shipped(shop: Shop) -> None:
    placed, paid = cloudevent("1", "order.placed", order="A"), cloudevent("2", "order.paid", order="A")
    await shop.send("B", poison := cloudevent("3", "order.placed"), cloudevent("4", "order.placed", order="B"))
    await shop.send("A", placed, cloudevent("5", "order.praised", order="A"), paid, placed, paid)
    with consuming(shop) as consumer:
        assert await shop.until_shipped({"A": ("shipped", 1), "B": ("reserved", 0)}) == {"1", "2", "4"}
        (dead,) = await eventually(shop.queue("dead-letters.fifo").receive_all)
        consumer.send_signal(signal.SIGTERM)
        output = await ended(consumer)
    assert dead["Body"] == poison
    assert consumer.returncode == 0
    # SQS keeps the other message of its order back meanwhile, and no other order.
    outcomes = [line for line in output.splitlines() if line.startswith(("order", "message", "event"))]
    assert [line.partition(" ")[0] for line in outcomes].count("message") == 3
    assert outcomes[-1] == "order B: reserved", outcomes
    assert outcomes.index("order A: shipped") < len(outcomes) - 2
    assert await shop.queue("orders.fifo").receive_all() == []


async def test_a_repeated_request_is_answered_alike_and_tells_nothing(shop: Shop) -> None:
    async with serving("orders", **shop.settings) as (_, url):
        for key, cents, status in (("a", 5, 201), ("a", 5, 201), ("b", 5, 201), ("a", 6, 422)):
            asked = {"json": ADA | {"cents": cents}, "headers": {"Idempotency-Key": key}}
            answers = await asyncio.gather(*(ask(url, "/orders", **asked) for _ in range(2)))
            assert [code for code, _ in answers] == [status] * 2
            assert answers[0] == answers[1]
        order = await place(url)
        for _ in range(2):
            await pay(url, order)
        assert await ask(url, f"/orders/{order}/cancellation") == (409, {"detail": "the order is paid"})
        assert (await ask(url, "/orders/unknown/payment"))[0] == 404
    assert await shop.emitted() == {"order.placed": 3, "order.paid": 1}
    assert Counter(item["status"]["S"] for item in await shop.items("ORDERS_TABLE")) == {"placed": 2, "paid": 1}
