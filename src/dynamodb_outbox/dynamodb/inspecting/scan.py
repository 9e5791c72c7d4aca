"""Scans a part of the table for events that no worker can find, because they are not in the index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynamodb_outbox.dynamodb.inspecting.facts import Scanned
from dynamodb_outbox.dynamodb.ordering.queue import is_queue_id, read_queue
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.windows.item import WINDOW, WINDOW_ATTRIBUTE, WINDOW_IDS
from dynamodb_outbox.event import RESERVED_IDS, EventStatus

SCAN_SECONDS: Final = 10.0
MAX_EXAMPLES: Final = 20
_ATTRIBUTES: Final = {"#id": "id", "#status": "status", "#sort": "gsiSortKey", "#shard": SHARD_ATTRIBUTE} | {
    f"#{name}": name for name in (WINDOW_ATTRIBUTE, "ids", "head")
}


async def scan(caller: Caller, *, shards: int, limit: int) -> Scanned:
    """Scan up to about `limit` items."""
    names = dict(_ATTRIBUTES)
    lost: list[str] = []
    unlisted: dict[str, str] = {}
    windows: dict[str, str] = {}
    examined = 0
    start: dict[str, Any] = {}
    while True:
        page = await caller.call(
            "scan",
            within=SCAN_SECONDS,
            TableName=caller.table_name,
            ConsistentRead=True,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            Limit=min(limit, 1_000),
            **start,
        )
        for item in page["Items"]:
            examined += 1
            item_id: str = item["id"]["S"]
            if item_id.startswith(WINDOW_IDS):
                windows[item_id.rpartition("/")[2]] = item.get("status", {}).get("S", "")
            elif is_queue_id(item_id):
                if _is_lost(item, item_id, shards=shards):
                    lost.append(_front_of(item))
            elif not item_id.startswith(RESERVED_IDS):
                _sort(item, item_id, shards=shards, lost=lost, unlisted=unlisted)
        last = page.get("LastEvaluatedKey")
        if not last or examined >= limit:
            break
        start = {"ExclusiveStartKey": last}
    orphans = await _orphans(caller, unlisted, windows) if not last else []
    return Scanned(
        examined=examined,
        is_complete=not last,
        not_in_index=tuple(lost[:MAX_EXAMPLES]),
        without_window=tuple(orphans[:MAX_EXAMPLES]),
    )


def _sort(item: Mapping[str, Any], item_id: str, *, shards: int, lost: list[str], unlisted: dict[str, str]) -> None:
    status = item.get("status", {}).get("S")
    if _is_lost(item, item_id, shards=shards):
        lost.append(item_id)
    elif status == EventStatus.PROCESSING and not _is_listed(item):
        unlisted[item_id] = item.get(WINDOW_ATTRIBUTE, {}).get("S", "")


def _is_lost(item: Mapping[str, Any], item_id: str, *, shards: int) -> bool:
    """Tell whether an event, or the queue of an ordering key, is due where no worker finds it."""
    if item.get("status", {}).get("S") != EventStatus.PENDING:
        return False
    key = Shards(shards).key(EventStatus.PENDING, item_id)
    return not _is_listed(item) or (shards > 1 and item.get(SHARD_ATTRIBUTE) != key)


def _is_listed(item: Mapping[str, Any]) -> bool:
    return "N" in item.get("gsiSortKey", {})


def _front_of(item: Mapping[str, Any]) -> str:
    """Return the id of the event at the front of a queue."""
    queue = read_queue(item)
    return str(item["id"]["S"]) if queue is None else queue.front


async def _orphans(caller: Caller, unlisted: Mapping[str, str], windows: Mapping[str, str]) -> list[str]:
    """Return the unlisted events without an open window, after a second read: they may have been done meanwhile."""
    doubtful = [item_id for item_id, window in unlisted.items() if windows.get(window) != WINDOW][:BATCH_GET]
    if not doubtful:
        return []
    items = await get_items(caller, doubtful, within=SCAN_SECONDS)
    return [
        item_id
        for item_id, item in items.items()
        if item.get("status") == {"S": EventStatus.PROCESSING.value} and "gsiSortKey" not in item
    ]
