"""docs/how-to/iam.md shows the generated policies, and each role calls what its policy allows."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import Delivery, DynamoDBOutbox, Event, OutboxEventBus, Reject
from dynamodb_outbox.observers import Observation, WindowOpened
from tests.backends import open_client
from tests.dynamodb.dead_worker import DeadWorker
from tests.dynamodb.windows import until
from tests.fakes import Clock

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "iam.md").read_text(encoding="utf-8")
ROLES = ("emit", "worker", "observer", "operator")
VERIFYING = {"dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"}


def policy_of(role: str) -> str:
    return (ROOT / "templates" / f"iam-{role}.json").read_text(encoding="utf-8")


def allowed_by(role: str) -> set[str]:
    return {action for statement in json.loads(policy_of(role))["Statement"] for action in statement["Action"]}


def test_the_page_shows_the_generated_policies() -> None:
    assert re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) == [policy_of(role) for role in ROLES]


def test_together_the_roles_have_the_actions_of_the_whole_policy() -> None:
    assert set().union(*map(allowed_by, ROLES)) == allowed_by("policy")


def test_every_action_is_explained() -> None:
    explained = set(re.findall(r"^\| `(dynamodb:\w+)`", PAGE, re.MULTILINE))
    assert explained == allowed_by("policy")


@dataclass
class Role:
    """A process with a client that notes which actions its calls on the table need."""

    outbox: DynamoDBOutbox
    needed: set[str] = field(default_factory=set[str])

    @property
    def bus(self) -> OutboxEventBus:
        return OutboxEventBus(self.outbox, on_error=lambda error: None)

    def note(self, params: Any, model: Any, **others: Any) -> None:
        self.needed |= {f"dynamodb:{action}" for action in self.actions_of(model.name, params)}

    def actions_of(self, operation: str, params: Any) -> set[str]:
        """IAM has no action for transactions and statements: each entry needs the action of its kind."""
        if operation == "TransactWriteItems":
            entries = json.loads(params["body"])["TransactItems"]
            own = self.outbox.table_name
            return {f"{kind}Item" for entry in entries for kind, item in entry.items() if item["TableName"] == own}
        if operation == "BatchExecuteStatement":
            statements = json.loads(params["body"])["Statements"]
            return {f"PartiQL{each['Statement'].partition(' ')[0].capitalize()}" for each in statements}
        return {operation}


@pytest.fixture
async def table(local_outbox: Any) -> str:
    outbox: DynamoDBOutbox = local_outbox()
    return outbox.table_name


@pytest.fixture
async def role(local_endpoint: str, table: str) -> AsyncIterator[Role]:
    async with open_client(local_endpoint) as client:
        role = Role(DynamoDBOutbox(client, table_name=table, poll_interval=0.05, processing_timeout=5, retention=60))
        client.meta.events.register("before-call.dynamodb", role.note)
        yield role


async def test_an_emitter_needs_what_its_policy_allows(role: Role) -> None:
    await role.bus.emit("order.placed", id="A-1")
    await role.bus.emit("order.placed", id="A-1", if_exists="ignore")
    await role.bus.emit_many([Event("order.placed") for _ in range(30)])
    async with role.bus.transaction() as tx:
        tx.emit("order.placed", id="A-2")
    await role.bus.emit("order.placed", id="A-2", if_exists="ignore")
    assert role.needed == {"dynamodb:PutItem", "dynamodb:BatchWriteItem"}
    await role.bus.emit_many([Event("order.placed", ordering_key="order-17") for _ in range(35)])
    # A queue is read if it vanishes while it is appended to. Whether statements are known is tried with an UPDATE, too,
    # whose refusal says as much.
    assert role.needed - {"dynamodb:PartiQLUpdate"} == allowed_by("emit") - VERIFYING - {"dynamodb:BatchGetItem"}


async def test_a_worker_needs_what_its_policy_allows(role: Role, local_outbox: Any, local_client: Any) -> None:
    clock = Clock()
    clock.now = time.time()
    dead = DeadWorker(local_client, role.outbox.table_name, clock)
    await dead.store_window()
    await dead.put(dead.unlisted(200, payload={"M": {"$value": {"S": "good"}}}))
    emitting = OutboxEventBus(local_outbox())
    bus = role.bus

    @bus.on("order.placed")
    async def bill(event: Event, delivery: Delivery) -> None:
        if event.payload == "bad":
            raise Reject("it is bad")
        if event.payload == "once":
            async with delivery.transaction():
                pass

    async with bus:
        await emitting.emit_many([Event("order.placed", payload) for payload in ("good", "bad", "once")])
        await emitting.emit_many([Event("order.placed", "good", ordering_key="order-17") for _ in range(35)])
        await bus.drain(timeout=60)
        await until(dead.is_closed)
    assert role.needed - VERIFYING == allowed_by("worker") - VERIFYING


async def test_a_service_that_handles_what_it_emits_needs_the_actions_of_both_roles(role: Role) -> None:
    bus = role.bus
    opened = asyncio.Event()

    @bus.on("order.placed")
    async def bill(event: Event) -> None:
        pass

    def observe(observation: Observation) -> None:
        if isinstance(observation, WindowOpened):
            opened.set()

    bus.add_observer(observe)
    async with bus:
        async with asyncio.timeout(30):
            while not opened.is_set():
                await bus.emit("order.placed")
        await bus.emit_many([Event("order.placed") for _ in range(30)])
        await bus.drain(timeout=60)
    assert role.needed >= {"dynamodb:PartiQLInsert", "dynamodb:DeleteItem"}
    assert role.needed <= allowed_by("emit") | allowed_by("worker")


async def test_an_observer_needs_what_its_policy_allows(role: Role, local_outbox: Any, local_client: Any) -> None:
    clock = Clock()
    clock.now = time.time()
    dead = DeadWorker(local_client, role.outbox.table_name, clock)
    await dead.store_window(ended=-60)
    event_id = await dead.put(dead.unlisted(200))
    emitting = OutboxEventBus(local_outbox())
    await emitting.emit_many([Event("order.placed") for _ in range(3)])
    bus = role.bus
    assert len((await bus.list_events("due")).events) == 3
    (held,) = (await bus.list_events("processing")).events
    assert held == await bus.get_event(event_id)
    assert (await bus.sample()).due.at_least == 3
    assert await bus.get_failed_events() == []
    assert role.needed == allowed_by("observer") - VERIFYING


async def test_an_operator_needs_what_its_policy_allows(role: Role, local_outbox: Any) -> None:
    worker = OutboxEventBus(local_outbox(), on_error=lambda error: None)

    @worker.on("order.placed")
    async def reject(event: Event) -> None:
        raise Reject("no")

    await worker.emit_many([Event("order.placed") for _ in range(3)])
    assert await worker.run_once() == 3
    bus = role.bus
    failed = await bus.get_failed_events()
    assert len((await bus.retry_events([event.id for event in failed])).done) == 3
    for _ in range(2):
        await worker.run_once()
    assert await bus.replace_event(failed[0].id, {"n": 2}, reason="a wrong amount")
    assert len((await bus.discard_events([event.id for event in failed], reason="sent twice")).done) == 2
    await bus.hold("order.placed", reason="the bank is down")
    assert await worker.run_once() == 1
    assert await bus.resume("order.placed") == 1
    assert await bus.holds() == []
    await repair_events_of_a_key(bus, worker)
    assert role.needed == allowed_by("operator") - VERIFYING


async def repair_events_of_a_key(bus: OutboxEventBus, worker: OutboxEventBus) -> None:
    first, second, third = await worker.emit_many([Event("order.placed", ordering_key="order-17") for _ in range(3)])
    await worker.run_once()
    assert (await bus.discard_events([second.id], reason="sent twice")).done
    assert (await bus.skip_events([first.id])).done
    await worker.run_once()
    assert (await bus.skip_events([third.id])).done
    assert (await bus.retry_events([first.id])).done


async def test_verifying_needs_the_describe_actions(role: Role, local_client: Any, table: str) -> None:
    await local_client.update_time_to_live(
        TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expireAt"}
    )
    await role.outbox.verify_table()
    assert role.needed == VERIFYING
