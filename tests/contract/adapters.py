"""The adapters that the contract suite runs over, with one way to look at what each has stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dynamodb_outbox import DynamoDBOutbox, EventStatus, InMemoryOutbox
from dynamodb_outbox.adapter import Claim, Outbox
from dynamodb_outbox.memory.table import Table
from tests.adapter_timing import with_timing
from tests.fakes import Clock


@dataclass
class Adapter:
    make: Callable[..., Outbox]
    stored: Callable[[str], Awaitable[dict[str, Any]]]
    """What is stored of an event: status, retries, sort_key (seconds or None), token, error, handled_by,
    unhandled_since (seconds or None)."""
    delete: Callable[[str], Awaitable[None]]


def dynamodb_adapter(client: Any, table_name: str, mode: Any, clock: Clock, **always: Any) -> Adapter:
    async def stored(event_id: str) -> dict[str, Any]:
        reply = await client.get_item(TableName=table_name, Key={"id": {"S": event_id}}, ConsistentRead=True)
        if "Item" not in reply:
            return {}
        item = reply["Item"]
        sort_key = item.get("gsiSortKey")
        return {
            "status": EventStatus(item["status"]["S"]),
            "retries": int(item["retryCount"]["N"]),
            "sort_key": None if sort_key is None else int(sort_key["N"]) / 1000,
            "token": item.get("claimToken", {}).get("S"),
            "error": item.get("lastError", {}).get("S", ""),
            "handled_by": set(item.get("handledBy", {}).get("SS", ())),
            "unhandled_since": int(item["unhandledSince"]["N"]) / 1000 if "unhandledSince" in item else None,
        }

    async def delete(event_id: str) -> None:
        await client.delete_item(TableName=table_name, Key={"id": {"S": event_id}})

    def make(**options: Any) -> Outbox:
        made = DynamoDBOutbox(client, table_name=table_name, conditional_writes=mode, clock=clock, **always, **options)
        # A settle after its lease has two seconds, and an attempt one; a machine may pause for that long.
        return with_timing(made, late_settle=30.0)

    return Adapter(make, stored, delete)


def memory_adapter(clock: Clock) -> Adapter:
    table = Table()

    def make(**options: Any) -> Outbox:
        outbox = InMemoryOutbox(clock=clock, **options)
        outbox._table = table  # all outboxes of a test share one table
        return outbox

    async def stored(event_id: str) -> dict[str, Any]:
        record = table.find(event_id)
        if record is None:
            return {}
        sort_key = None if record.sort_key is None else record.sort_key / 1000
        return {
            "status": record.status,
            "retries": record.retry_count,
            "sort_key": sort_key,
            "token": record.token,
            "error": record.last_error,
            "handled_by": set(record.handled_by),
            "unhandled_since": record.unhandled_since,
        }

    async def delete(event_id: str) -> None:
        del table.events[event_id]

    return Adapter(make, stored, delete)


async def claim_one(outbox: Outbox) -> Claim:
    (claim,) = await outbox.claim(10)
    return claim


async def settle_one(outbox: Outbox, claim: Claim, outcome: Any) -> Any:
    (error,) = await outbox.settle([(claim, outcome)])
    return error
