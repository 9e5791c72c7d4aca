"""docs/reference/item-format.md says what DynamoDB holds of an event in each status."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus, Reject
from dynamodb_outbox.dynamodb.schema.shards import Shards
from dynamodb_outbox.observers import Observation, WindowOpened
from dynamodb_outbox.worker_identity import worker_identity
from tests.dynamodb.dead_worker import DeadWorker
from tests.fakes import Clock

Item = dict[str, dict[str, Any]]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "item-format.md").read_text(encoding="utf-8")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
STATUSES = ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "HELD", "DISCARDED", "QUEUED")
WORKERS_ID = "dynamodb-outbox-workers"


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int


def rows(columns: int) -> list[list[str]]:
    """The rows of the page's tables with so many columns, their headings included."""
    tables = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in PAGE.splitlines() if line.startswith("| ")]
    return [row for row in tables if len(row) == columns]


TYPES = {row[0].strip("`"): row[1] for row in rows(5) if row[1] in {"S", "N", "M", "SS"}}
PRESENCE = {
    row[0].strip("`"): dict(zip(STATUSES, row[1:], strict=True)) for row in rows(8) if row[1] in {"yes", "some", "no"}
}
VALUES = [(row[0].strip("`"), json.loads(row[1].strip("`"))) for row in rows(2) if row[1].startswith('`{"')]


def comparable(value: Any, kind: str = "") -> Any:
    """A value in DynamoDB's JSON: sets in an order, bytes in base64, and numbers as numbers (19.9 may be 199E-1)."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: comparable(member, name) for name, member in value.items()}
        case list():
            members = [comparable(member, kind) for member in value]
            return sorted(members) if kind in {"SS", "NS", "BS"} else members
        case str() if kind == "N":
            return Decimal(value)
        case _:
            return value


class Table:
    """A table of DynamoDB Local, at a time that stands still, and the items as it holds them."""

    def __init__(self, client: Any, name: str, **options: Any) -> None:
        self.client = client
        self.name = name
        options = {"clock": NOW.timestamp, "retention": 60, "base_backoff": 1} | options
        self.outbox = DynamoDBOutbox(client, table_name=name, **options)

    def bus(self) -> OutboxEventBus:
        return OutboxEventBus(self.outbox, on_error=lambda error: None)

    async def item(self, event_id: str) -> Item:
        got: Item = (await self.client.get_item(TableName=self.name, Key={"id": {"S": event_id}}))["Item"]
        return got


OpenTable = Callable[..., Awaitable[Table]]


@pytest.fixture
async def open_table(local_client: Any, table_name: str) -> OpenTable:
    async def open_one(**options: Any) -> Table:
        table = Table(local_client, table_name, **options)
        await table.outbox.create_table()
        return table

    return open_one


async def items_of_every_status(table: Table) -> list[Item]:
    """Items as they are after an emit, during an attempt, and after each outcome."""
    bus = table.bus()
    during: list[Item] = []

    @bus.on("order.placed", name="greet")
    async def greet(event: Event) -> None:
        during.append(await table.item(event.id))
        if event.payload == "bad":
            raise Reject("it is bad")

    @bus.on("order.placed", name="bill")
    async def bill(event: Event) -> None:
        if event.payload == "late":
            raise ValueError("the bank is closed")

    await bus.emit("order.placed", "later", id="delayed", delay=60)
    for event_id in ("late", "bad", "good"):
        await bus.emit("order.placed", event_id, id=event_id, metadata={"n": 1})
    await bus.emit("order.lost", id="lost")
    assert await bus.run_once() == 4
    settled = [await table.item(event_id) for event_id in ("delayed", "late", "bad", "good", "lost")]
    assert [item["status"]["S"] for item in settled] == ["PENDING", "PENDING", "FAILED", "COMPLETED", "PENDING"]
    return during + settled


async def test_items_have_the_attributes_and_types_of_the_tables(open_table: OpenTable) -> None:
    assert TYPES.keys() == PRESENCE.keys()
    assert len(TYPES) == 25
    seen: dict[str, set[str]] = {}
    table = await open_table(shards=4)
    items = await items_of_every_status(table) + await items_of_a_window(table) + await items_of_an_operator(table)
    items += await items_of_a_key(table)
    for item in items:
        status = item["status"]["S"]
        assert {name: next(iter(value)) for name, value in item.items()}.items() <= TYPES.items()
        always = {name for name, presence in PRESENCE.items() if presence[status] == "yes"}
        possible = {name for name, presence in PRESENCE.items() if presence[status] != "no"}
        assert always <= item.keys() <= possible, status
        seen.setdefault(status, set()).update(item)
    assert seen.keys() == set(STATUSES)
    assert set().union(*seen.values()) == TYPES.keys()
    # What is always there in every status but COMPLETED, and what only a COMPLETED item has.
    assert {"completedOn", "expireAt"} <= seen["COMPLETED"]


async def items_of_an_operator(table: Table) -> list[Item]:
    """Items as they are after a hold, a discard and a replacement."""
    bus = table.bus()
    await bus.hold("refund", reason="the bank is down")
    for event_id in ("held", "discarded", "replaced"):
        await bus.emit("refund", id=event_id)
    assert await bus.run_once() >= 3
    await bus.discard_events(["discarded"], reason="sent twice")
    await bus.replace_event("replaced", {"n": 2}, reason="a wrong amount")
    items = [await table.item(event_id) for event_id in ("held", "discarded", "replaced")]
    assert [item["status"]["S"] for item in items] == ["HELD", "DISCARDED", "DISCARDED"]
    return items


async def items_of_a_key(table: Table) -> list[Item]:
    """Events with an ordering key: one that is done, one that waits, and one that was set aside."""
    bus = table.bus()

    @bus.on("account.changed")
    async def apply(event: Event) -> None:
        if event.payload == "bad":
            raise Reject("it is bad")

    for payload in ("good", "bad", "good"):
        await bus.emit("account.changed", payload, id=f"key-{payload}", ordering_key="account-1", if_exists="ignore")
    await bus.emit("account.changed", "waits", id="key-waits", ordering_key="account-1")
    while "key-bad" not in [failed.id for failed in await bus.get_failed_events()]:
        await bus.run_once()
    waiting = await table.item("key-waits")
    await bus.skip_events(["key-bad"])
    aside = await table.item("key-bad")
    await bus.retry_events(["key-bad"])
    items = [await table.item("key-good"), waiting, aside, await table.item("key-bad")]
    assert [item["status"]["S"] for item in items] == ["COMPLETED", "QUEUED", "FAILED", "QUEUED"]
    return items


async def items_of_a_window(table: Table) -> list[Item]:
    """Events that were emitted into a window, during an attempt and after each outcome."""
    bus = table.bus()
    during: list[Item] = []

    @bus.on("order.placed")
    async def bill(event: Event) -> None:
        if "window" in (item := await table.item(event.id)):
            during.append(item)
        if event.payload == "late":
            raise ValueError("the bank is closed")
        if event.payload == "bad":
            raise Reject("it is bad")

    opened = asyncio.Event()

    def observe(observation: Observation) -> None:
        if isinstance(observation, WindowOpened):
            opened.set()

    bus.add_observer(observe)
    async with bus:
        async with asyncio.timeout(30):
            while not opened.is_set():
                await bus.emit("order.placed", "good")
        emitted = [Event("order.placed", payload, metadata={"n": 1}) for payload in ("late", "bad", "good")]
        await bus.emit_many(emitted)
    settled = [await table.item(event.id) for event in emitted]
    assert [item["status"]["S"] for item in settled] == ["PENDING", "FAILED", "COMPLETED"]
    assert len(during) >= len(settled)
    return during + settled


def table_of_other_items(number: int) -> dict[str, str]:
    """The attributes and types of a table in the section about windows and tombstones."""
    section = PAGE.partition("### Windows and tombstones")[2]
    table = re.findall(r"^(?:\|.*\n)+", section, re.MULTILINE)[number]
    rows = re.findall(r"^\| (`.*?`) \| ([A-Z]+) \|", table, re.MULTILINE)
    return {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}


def types_of(item: Item) -> dict[str, str]:
    return {name: next(iter(value)) for name, value in item.items()}


async def test_windows_and_tombstones_have_the_attributes_of_the_tables(open_table: OpenTable) -> None:
    table = await open_table(shards=4)
    clock = Clock()
    clock.now = NOW.timestamp()
    dead = DeadWorker(table.client, table.name, clock, Shards(4))
    await dead.store_window()
    described, tombstone = table_of_other_items(0), table_of_other_items(1)
    assert types_of(await dead.stored(dead.window_id)).items() == described.items() - {("expireAt", "N")}
    await table.outbox.recover()
    closed = described.items() - {("gsiSortKey", "N"), ("statusShard", "S")}
    assert types_of(await dead.stored(dead.window_id)).items() == closed
    assert types_of(await dead.stored(dead.id_of(200))) == tombstone


async def test_the_item_of_the_holds_is_as_the_page_says(open_table: OpenTable) -> None:
    table = await open_table()
    bus = table.bus()
    await bus.hold(reason="deploy", by="ada", until=NOW + timedelta(minutes=5))
    await bus.hold("refund", reason="the bank is down", by="ada")
    await bus.resume("refund")
    item = await table.item("dynamodb-outbox-holds")
    names = sorted(item.keys() - {"id"}, reverse=True)
    assert names[0] == "hold-all"
    assert names[1] == f"hold-{sha256(b'refund').hexdigest()[:32]}"
    section = PAGE.partition("### The item of the holds")[2]
    described = dict(re.findall(r"^\| (`[^|]*`) \| ([A-Z]) \|", section.partition("### Queues")[0], re.MULTILINE))
    types = {name: kind for names, kind in described.items() for name in re.findall(r"`(\w+)`", names)}
    stored = item["hold-all"]["M"] | item[names[1]]["M"]
    assert {name: next(iter(value)) for name, value in stored.items()} == types


async def test_an_index_without_shards_needs_no_shard(open_table: OpenTable) -> None:
    items = await items_of_every_status(await open_table())
    assert not any("statusShard" in item for item in items)


async def test_the_example_is_a_real_item(open_table: OpenTable) -> None:
    (shown,) = re.findall(r"^<!-- item -->\n```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    table = await open_table()
    bus = table.bus()

    @bus.on("order.placed", name="greet")
    async def greet(event: Event) -> None:
        pass

    @bus.on("order.placed", name="bill")
    async def bill(event: Event) -> None:
        raise ValueError("the bank is closed")

    payload = {"order": "A-1", "total": 19.9}
    await bus.emit("order.placed", payload, id="o-1", occurred_at=NOW, metadata={"tenant": "shop-7"})
    assert await bus.run_once() == 1
    item = await table.item("o-1")
    assert re.fullmatch("[0-9a-f]{32}", item["claimToken"]["S"])
    assert item["claimedBy"] == {"S": worker_identity.text}
    names = {"claimToken": {"S": "..."}, "claimedBy": {"S": "orders-7f9c/1/3f9a2c"}}
    assert item | names == json.loads(shown)


@pytest.mark.parametrize(("python", "stored"), VALUES)
async def test_values_are_stored_as_the_page_says(open_table: OpenTable, python: str, stored: Any) -> None:
    value = eval(python, {**globals(), "UTC": UTC})  # noqa: S307 - the expression is the page's
    table = await open_table(numbers="decimal")
    await table.bus().emit("order.placed", {"value": value}, id="v")
    assert comparable((await table.item("v"))["payload"]) == {"M": {"value": comparable(stored)}}


def test_every_kind_of_value_is_shown() -> None:
    assert len(VALUES) == 19
    assert {next(iter(stored)) for _, stored in VALUES} == {"S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS"}
    assert {date, datetime, Decimal, UUID, Color, Point} <= {
        type(eval(python, {**globals(), "UTC": UTC}))  # noqa: S307
        for python, _ in VALUES
    }


@pytest.mark.parametrize(
    ("payload", "member"), [([1], {"L": [{"N": "1"}]}), ({"$value": 1}, {"M": {"$value": {"N": "1"}}})]
)
async def test_other_payloads_are_wrapped(open_table: OpenTable, payload: Any, member: Any) -> None:
    table = await open_table()
    await table.bus().emit("order.placed", payload, id="w")
    assert (await table.item("w"))["payload"] == {"M": {"$value": member}}


async def test_an_item_of_another_program_is_delivered(open_table: OpenTable) -> None:
    table = await open_table()
    millis = str(round(NOW.timestamp() * 1000))
    await table.client.put_item(
        TableName=table.name,
        ConditionExpression="attribute_not_exists(id)",
        Item={
            "id": {"S": "foreign"},
            "type": {"S": "order.placed"},
            "payload": {"M": {"order": {"S": "A-1"}}},
            "occurredAt": {"S": "2026-01-02T03:04:05Z"},
            "status": {"S": "PENDING"},
            "retryCount": {"N": "0"},
            "gsiSortKey": {"N": millis},
        },
    )
    got: list[Event] = []
    bus = table.bus()

    @bus.on("order.placed")
    async def collect(event: Event) -> None:
        got.append(event)

    assert await bus.run_once() == 1
    assert [(event.id, event.payload, event.occurred_at) for event in got] == [
        ("foreign", {"order": "A-1"}, NOW.replace(microsecond=0))
    ]
    assert (await table.item("foreign"))["status"] == {"S": "COMPLETED"}


async def test_the_item_of_the_workers_is_as_the_page_says(open_table: OpenTable) -> None:
    table = await open_table()
    bus = table.bus()

    @bus.on("order.placed")
    async def collect(event: Event) -> None:
        pass

    async with bus:
        await bus.emit("order.placed")
        await bus.drain(timeout=60)
        item = await table.item(WORKERS_ID)
    assert item.pop("id") == {"S": WORKERS_ID}
    worker, handlers = sorted(item, reverse=True)
    assert re.fullmatch("w-[0-9a-f]{12}", worker)
    assert re.fullmatch("h-[0-9a-f]{8}", handlers)
    assert item[worker] == {"S": f"{round(NOW.timestamp() * 1000)} {handlers.removeprefix('h-')}"}
    assert len(item[handlers]["B"]) == 8
