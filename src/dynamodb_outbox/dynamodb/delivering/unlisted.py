"""Counting the events that are stored in windows, and so in no index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dynamodb_outbox.dynamodb.delivering.index import StatusIndex
from dynamodb_outbox.dynamodb.transport.batch_get import BATCH_GET, get_items
from dynamodb_outbox.dynamodb.transport.caller import Caller
from dynamodb_outbox.dynamodb.windows.item import WINDOW_ATTRIBUTE, StoredWindow, read_window
from dynamodb_outbox.event import EventStatus

COUNTED_NUMBERS: Final = 1_000
"""How many numbers of a window are counted: the lowest ones, where events are open the longest. If none of them is
open, the count goes on until it finds some, so that 0 is exact: `drain` waits for it."""
UNLISTED_ATTRIBUTES: Final = ("id", "status", "gsiSortKey", WINDOW_ATTRIBUTE)
"""The attributes that `is_unlisted` reads."""


async def count_unlisted(caller: Caller, index: StatusIndex, *, within: float) -> int:
    """Count the events that are PROCESSING in a window, in the first 1,000 numbers of each window.

    If there is none among them, the count goes on until it finds some. Each number of a window costs a read unit, and
    a window usually has 200. Each call is tried for `within` seconds.
    """
    total = 0
    for partition in index.windows():
        async for rows in index.keys(partition, within=within, page=BATCH_GET):
            items = await get_items(caller, [row["id"]["S"] for row in rows], within=within)
            for window in map(read_window, items.values()):
                if window is not None:
                    total += await _count(caller, window, within)
    return total


async def _count(caller: Caller, window: StoredWindow, within: float) -> int:
    total = 0
    for first in range(window.start, window.end, BATCH_GET):
        if total and first >= window.start + COUNTED_NUMBERS:
            break
        ids = [window.id_of(number) for number in range(first, min(first + BATCH_GET, window.end))]
        items = await get_items(caller, ids, within=within, attributes=UNLISTED_ATTRIBUTES)
        total += sum(is_unlisted(item, window) for item in items.values())
    return total


def is_unlisted(item: Mapping[str, Any], window: StoredWindow) -> bool:
    """Tell whether an event is PROCESSING in a window, and in no index."""
    return (
        item.get("status") == {"S": EventStatus.PROCESSING.value}
        and "gsiSortKey" not in item
        and item.get(WINDOW_ATTRIBUTE) == {"S": window.name}
    )
