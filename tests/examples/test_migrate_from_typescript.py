"""The program that moves events of the TypeScript outbox-event-bus, on rows as its DynamoDB adapter stores them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dynamodb_outbox import DynamoDBOutbox, Event, OutboxEventBus
from examples.migrate_from_typescript import Item, migrate

ROOT = Path(__file__).resolve().parents[2]
PAST, FUTURE = "1700000000000", "4102444800000"


def row(event_id: str, status: str, **attributes: Any) -> Item:
    """A row with the attributes that every emit of the adapter stores."""
    return {
        "id": {"S": event_id},
        "type": {"S": "order.placed"},
        "payload": {"M": {"n": {"N": "1"}}},
        "occurredAt": {"S": "2026-11-26T16:58:12.407Z"},
        "status": {"S": status},
        "retryCount": {"N": "0"},
    } | attributes


TRIED = {"startedOn": {"N": PAST}}
BUSY = TRIED | {"lastError": {"S": "busy"}}
# One row of each kind, with the attributes that version 2.0.3 of the adapter stored on DynamoDB Local.
ROWS = [
    row("due", "created", gsiSortKey={"N": PAST}),
    row("retry", "created", gsiSortKey={"N": PAST}, retryCount={"N": "1"}, **BUSY),
    row("later", "created", gsiSortKey={"N": FUTURE}),
    row("list", "created", gsiSortKey={"N": PAST}, payload={"L": [{"S": "a"}, {"M": {"b": {"N": "1.5"}}}]}),
    row("text", "created", gsiSortKey={"N": PAST}, payload={"S": "text"}),
    row("null", "created", gsiSortKey={"N": PAST}, payload={"NULL": True}),
    row("wrapped", "created", gsiSortKey={"N": PAST}, payload={"M": {"$value": {"N": "1"}}}),
    {name: value for name, value in row("undefined", "created", gsiSortKey={"N": PAST}).items() if name != "payload"},
    row("died", "active", gsiSortKey={"N": PAST}, retryCount={"N": "2"}, **TRIED),
    row("held", "active", gsiSortKey={"N": FUTURE}, **TRIED),
    row("failed", "failed", retryCount={"N": "5"}, nextRetryAt={"N": PAST}, **BUSY),
    row("done", "completed", completedOn={"N": PAST}, **TRIED),
]
PAYLOADS = {
    "due": {"n": 1},
    "retry": {"n": 1},
    "list": ["a", {"b": 1.5}],
    "text": "text",
    "null": None,
    "wrapped": {"$value": 1},
    "undefined": None,
    "died": {"n": 1},
}
"""What handlers get of the events that are due."""
MOVED = {
    "created, now PENDING": 8,
    "active, now PENDING": 1,
    "failed, now FAILED": 1,
    "active, left: its lease has not run out": 1,
}


@pytest.fixture
async def outbox(local_client: Any, local_outbox: Any) -> DynamoDBOutbox:
    outbox: DynamoDBOutbox = local_outbox(poll_interval=0.05)
    for item in ROWS:
        await local_client.put_item(TableName=outbox.table_name, Item=item)
    return outbox


async def items_of(client: Any, outbox: DynamoDBOutbox) -> dict[str, Item]:
    scanned = await client.scan(TableName=outbox.table_name, ConsistentRead=True)
    return {item["id"]["S"]: item for item in scanned["Items"]}


async def test_workers_leave_rows_of_the_other_library_alone(local_client: Any, outbox: DynamoDBOutbox) -> None:
    await outbox.verify_table()
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def handle(event: Event) -> None:
        pytest.fail(event.id)

    assert await bus.run_once() == 0
    assert await items_of(local_client, outbox) == {item["id"]["S"]: item for item in ROWS}


async def test_moved_events_are_delivered(local_client: Any, outbox: DynamoDBOutbox) -> None:
    assert await migrate(local_client, outbox.table_name) == MOVED
    got: dict[str, tuple[Any, int]] = {}
    bus = OutboxEventBus(outbox)

    @bus.on("order.placed")
    async def handle(event: Event, delivery: Any) -> None:
        assert event.occurred_at == datetime(2026, 11, 26, 16, 58, 12, 407_000, tzinfo=UTC)
        got[event.id] = (event.payload, delivery.attempt)

    while await bus.run_once():
        pass
    assert {event_id: payload for event_id, (payload, _) in got.items()} == PAYLOADS
    assert {event_id: attempt for event_id, (_, attempt) in got.items() if attempt > 1} == {"retry": 2, "died": 4}

    (failed,) = await bus.get_failed_events()
    assert (failed.id, failed.retry_count, failed.last_error) == ("failed", 5, "busy")
    assert failed.failed_at == datetime.fromtimestamp(int(PAST) / 1000, UTC)
    assert len((await bus.retry_events(["failed"])).done) == 1
    assert await bus.run_once() == 1
    assert "failed" in got

    stored = await items_of(local_client, outbox)
    assert stored["later"]["gsiSortKey"] == {"N": FUTURE}
    assert stored["held"] == next(item for item in ROWS if item["id"]["S"] == "held")
    assert stored["done"] == next(item for item in ROWS if item["id"]["S"] == "done")


async def test_a_second_run_changes_nothing(local_client: Any, outbox: DynamoDBOutbox) -> None:
    await migrate(local_client, outbox.table_name)
    moved = await items_of(local_client, outbox)
    assert await migrate(local_client, outbox.table_name) == {"active, left: its lease has not run out": 1}
    assert await items_of(local_client, outbox) == moved


@pytest.mark.parametrize(
    "changed",
    [row("due", "created", gsiSortKey={"N": FUTURE}), row("due", "active", gsiSortKey={"N": PAST})],
    ids=["retried", "claimed"],
)
async def test_an_event_that_changed_since_the_scan_is_left(
    local_client: Any, outbox: DynamoDBOutbox, monkeypatch: pytest.MonkeyPatch, changed: Item
) -> None:
    update_item = local_client.update_item

    async def late(**arguments: Any) -> Any:
        if arguments["Key"] == {"id": {"S": "due"}}:
            await local_client.put_item(TableName=outbox.table_name, Item=changed)
        return await update_item(**arguments)

    monkeypatch.setattr(local_client, "update_item", late)
    counts = await migrate(local_client, outbox.table_name)
    assert counts["created, left: it was changed meanwhile"] == 1
    assert (await items_of(local_client, outbox))["due"] == changed


async def test_the_program_says_what_it_did(local_endpoint: str, local_client: Any, outbox: DynamoDBOutbox) -> None:
    def run(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "examples.migrate_from_typescript", outbox.table_name, *arguments]
        environment = os.environ | {"AWS_ENDPOINT_URL": local_endpoint}
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return [" ".join(line.split()) for line in ran.stdout.splitlines()]

    counted = sorted(f"{count} {what}" for what, count in MOVED.items())
    *lines, last = run("--dry-run")
    assert (sorted(lines), last) == (counted, "nothing was changed")
    assert await items_of(local_client, outbox) == {item["id"]["S"]: item for item in ROWS}
    *lines, last = run()
    assert (sorted(lines), last) == (counted, "done")
    assert (await items_of(local_client, outbox))["due"]["status"] == {"S": "PENDING"}
