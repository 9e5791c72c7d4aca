"""Reads the items of a table for the checker: events, queues and windows, and the changes of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamodb_outbox.dynamodb.ordering.queue import NOBODY, PAGE_PREFIX, PREFIX, read_queue
from dynamodb_outbox.dynamodb.windows.item import VOID, WINDOW, WINDOW_IDS
from reliability.history import (
    FinalState,
    PageWritten,
    QueueWritten,
    Stored,
    StoredQueue,
    StoredWindow,
    WindowWritten,
    Written,
)

Item = Mapping[str, Mapping[str, Any]]

AnyWritten = Written | WindowWritten | QueueWritten | PageWritten
QUEUED: Final = "QUEUED"
_NO_WINDOW: Final = StoredWindow(window="", status="")


def stored_of(item: Item, *, index_key: str = "status") -> Stored:
    """Read the fields for the checker from an item of the low-level API."""
    token = item.get("claimToken")
    return Stored(
        event_id=item["id"]["S"],
        token=None if token is None else token["S"],
        window=item["window"]["S"] if "window" in item else None,
        key=item["orderingKey"]["S"] if "orderingKey" in item else None,
        waits=item["status"]["S"] == QUEUED,
        **_delivery_of(item, index_key),
    )


def queue_of(item: Item, *, index_key: str = "status", paged: tuple[str, ...] = ()) -> StoredQueue:
    """Read the fields for the checker from the item of a queue."""
    token = item["claimToken"]["S"]
    return StoredQueue(
        key=item["id"]["S"].removeprefix(PREFIX),
        ids=ids_in(item, "ids"),
        head=ids_in(item, "head"),
        paged=paged,
        epoch=item["epoch"]["S"] if "epoch" in item else "",
        first_page=int(item["firstPage"]["N"]) if "firstPage" in item else 0,
        last_page=int(item["lastPage"]["N"]) if "lastPage" in item else -1,
        token=None if token == NOBODY else token,
        **_delivery_of(item, index_key),
    )


def ids_in(item: Item, name: str) -> tuple[str, ...]:
    """Read a list of ids; empty if there is none."""
    return tuple(member["S"] for member in item.get(name, {"L": []})["L"])


def _delivery_of(item: Item, index_key: str) -> dict[str, Any]:
    """Read the fields that an event has in common with a queue, whose fields describe the event at the front."""
    sort_key = item.get("gsiSortKey")
    return {
        "status": item["status"]["S"],
        "retry_count": int(item["retryCount"]["N"]) if "retryCount" in item else 0,
        "sort_key": None if sort_key is None else int(sort_key["N"]),
        "handled_by": tuple(sorted(item["handledBy"]["SS"])) if "handledBy" in item else (),
        "indexed": sort_key is not None and index_key in item,
        "unhandled_since": int(item["unhandledSince"]["N"]) if "unhandledSince" in item else None,
    }


def is_event(item: Item) -> bool:
    """Tell whether an item is an event: not a queue, a window or a tombstone, and not the list of the workers."""
    return "status" in item and item["status"]["S"] not in (WINDOW, VOID) and not is_queue(item)


def is_queue(item: Item) -> bool:
    """Tell whether an item is the queue of an ordering key."""
    return "id" in item and item["id"]["S"].startswith(PREFIX)


def is_window(item: Item) -> bool:
    """Tell whether an item is a window, open or recovered."""
    return "id" in item and item["id"]["S"].startswith(WINDOW_IDS)


def window_of(item: Item) -> StoredWindow:
    """Read the fields for the checker from the item of a window."""
    sort_key = item.get("gsiSortKey")
    return StoredWindow(
        window=item["id"]["S"].rpartition("/")[2],
        status=item["status"]["S"],
        token=item["claimToken"]["S"],
        seed=bytes(item["seed"]["B"]).hex(),
        start=int(item["windowFrom"]["N"]),
        end=int(item["windowTo"]["N"]),
        sort_key=None if sort_key is None else int(sort_key["N"]),
    )


def record_of_write(
    old: Item | None,
    new: Item | None,
    *,
    index_key: str,
    at: float,
    worker: str = "",
    began_at: float | None = None,
    transaction: int = 0,
) -> AnyWritten | None:
    """Make the record of a change of an item; None if it is neither an event, nor a queue or its page, nor a window.

    A tombstone counts as no item: an event that is stored over it is new.
    """
    facts: dict[str, Any] = {"at": at, "worker": worker, "began_at": began_at}
    known = [item for item in (old, new) if item is not None]
    if any(map(is_window, known)):
        before, after = (None if item is None else window_of(item) for item in (old, new))
        return WindowWritten(window=(before or after or _NO_WINDOW).window, before=before, after=after, **facts)
    if known and known[0]["id"]["S"].startswith(PAGE_PREFIX):
        return _page_written(known[0]["id"]["S"], new, transaction=transaction, **facts)
    if any(map(is_queue, known)):
        facts["transaction"] = transaction
        was, now = (None if item is None else queue_of(item, index_key=index_key) for item in (old, new))
        return QueueWritten(key=known[0]["id"]["S"].removeprefix(PREFIX), before=was, after=now, **facts)
    if not any(map(is_event, known)):
        return None
    one, other = (stored_of(item, index_key=index_key) if item and is_event(item) else None for item in (old, new))
    return Written(event_id=known[0]["id"]["S"], before=one, after=other, transaction=transaction, **facts)


def final_state(items: Iterable[Item], *, at: float, index_key: str = "status") -> FinalState:
    """Read the final state from all items of a table."""
    listed = list(items)
    windows = [window_of(item) for item in listed if is_window(item)]
    pages = {item["id"]["S"]: ids_in(item, "ids") for item in listed if item["id"]["S"].startswith(PAGE_PREFIX)}
    queues = [queue_of(item, index_key=index_key, paged=_paged(item, pages)) for item in listed if is_queue(item)]
    listed_pages = {page_id for item in listed if is_queue(item) for page_id in _pages_of(item)}
    return FinalState(
        at=at,
        events={item["id"]["S"]: stored_of(item, index_key=index_key) for item in listed if is_event(item)},
        windows={window.window: window for window in windows if window.is_open},
        queues={queue.key: queue for queue in queues},
        stray_pages=tuple(sorted(pages.keys() - listed_pages)),
    )


def _paged(item: Item, pages: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """List the ids in the pages of a queue. A page that is missing has no ids."""
    return tuple(each for page_id in _pages_of(item) for each in pages.get(page_id, ()))


def _pages_of(item: Item) -> list[str]:
    queue = read_queue(item)
    if queue is None or not queue.pages:
        return []
    return [queue.page_id(number) for number in range(queue.first_page, queue.last_page + 1)]


def _page_written(page_id: str, new: Item | None, **facts: Any) -> PageWritten:
    epoch, number, key = page_id.removeprefix(PAGE_PREFIX).split("/", 2)
    return PageWritten(key=key, epoch=epoch, number=int(number), ids=() if new is None else ids_in(new, "ids"), **facts)
