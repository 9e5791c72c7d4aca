"""Scans a part of the table for events that no worker can find, because they are not in the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dynamodb_outbox.dynamodb.inspecting.facts import Scanned
from dynamodb_outbox.dynamodb.items.stored import decode_stored
from dynamodb_outbox.dynamodb.ordering.queue import PAGE_PREFIX, is_queue_id, read_queue
from dynamodb_outbox.dynamodb.ordering.standing import Standings
from dynamodb_outbox.dynamodb.schema.shards import SHARD_ATTRIBUTE, Shards
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.windows.item import WINDOW, WINDOW_ATTRIBUTE, WINDOW_IDS
from dynamodb_outbox.event import RESERVED_IDS, EventStatus

SCAN_SECONDS: Final = 10.0
MAX_EXAMPLES: Final = 20
LONGEST_EMIT: Final = 60.0
"""An event that is in no line for so long (seconds) is not about to be put into one by its emit."""
_ATTRIBUTES: Final = {"#id": "id", "#status": "status", "#sort": "gsiSortKey", "#shard": SHARD_ATTRIBUTE} | {
    f"#{name}": name for name in (WINDOW_ATTRIBUTE, "ids", "head")
}


@dataclass(slots=True)
class _Seen:
    """The items of a scan, as far as they concern events that no worker finds."""

    shards: int
    examined: int = 0
    lost: list[str] = field(default_factory=list[str])
    unlisted: dict[str, str] = field(default_factory=dict[str, str])
    """The windows of the PROCESSING events that are not in the index."""
    windows: dict[str, str] = field(default_factory=dict[str, str])
    queued: list[str] = field(default_factory=list[str])
    in_line: set[str] = field(default_factory=set[str])
    """The ids in queues and pages."""

    def add(self, item: Mapping[str, Any]) -> None:
        """Add the next item."""
        self.examined += 1
        item_id: str = item["id"]["S"]
        status = item.get("status", {}).get("S", "")
        if item_id.startswith(WINDOW_IDS):
            self.windows[item_id.rpartition("/")[2]] = status
        elif is_queue_id(item_id) or item_id.startswith(PAGE_PREFIX):
            self.in_line.update(_listed_in(item))
            if _is_lost(item, item_id, shards=self.shards):
                self.lost.append(_front_of(item))
        elif not item_id.startswith(RESERVED_IDS):
            if _is_lost(item, item_id, shards=self.shards):
                self.lost.append(item_id)
            elif status == EventStatus.PROCESSING and not _is_listed(item):
                self.unlisted[item_id] = item.get(WINDOW_ATTRIBUTE, {}).get("S", "")
            elif status == EventStatus.QUEUED:
                self.queued.append(item_id)


async def scan(caller: Caller, *, shards: int, limit: int, now: float) -> Scanned:
    """Scan up to about `limit` items; `now` is the time in epoch seconds."""
    names = dict(_ATTRIBUTES)
    seen = _Seen(shards)
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
            seen.add(item)
        last = page.get("LastEvaluatedKey")
        if not last or seen.examined >= limit:
            break
        start = {"ExclusiveStartKey": last}
    # An item that was not scanned may be the window or the queue of an event.
    orphans = [] if last else await _orphans(caller, seen.unlisted, seen.windows)
    stray = [] if last else [event_id for event_id in seen.queued if event_id not in seen.in_line]
    return Scanned(
        examined=seen.examined,
        is_complete=not last,
        not_in_index=tuple(seen.lost[:MAX_EXAMPLES]),
        without_window=tuple(orphans[:MAX_EXAMPLES]),
        not_in_line=tuple(await _not_in_line(caller, stray[:MAX_EXAMPLES], now=now)),
    )


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


def _listed_in(item: Mapping[str, Any]) -> list[str]:
    """List the ids in a queue or a page."""
    members = [*item.get("head", {}).get("L", ()), *item.get("ids", {}).get("L", ())]
    return [member["S"] for member in members if "S" in member]


async def _not_in_line(caller: Caller, event_ids: Sequence[str], *, now: float) -> list[str]:
    """Return the events that are in no line, after a second read: their emits may have put them there meanwhile."""
    standings = Standings(caller, within=SCAN_SECONDS)
    found = await standings.read(event_ids) if event_ids else {}
    return [
        event_id
        for event_id, standing in found.items()
        if _is_older(standing.event, now - LONGEST_EMIT) and await standings.any_may_be_arriving([standing])
    ]


def _is_older(event: Mapping[str, Any] | None, moment: float) -> bool:
    stored = None if event is None else decode_stored(dict(event), numbers="native", now=moment)
    return stored is not None and stored.occurred_at.timestamp() < moment


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
