"""Reads the items of a table for the checker: events, windows, and the changes of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamodb_outbox.dynamodb.windows.item import VOID, WINDOW, WINDOW_IDS
from reliability.history import FinalState, Stored, StoredWindow, WindowWritten, Written

Item = Mapping[str, Mapping[str, Any]]

_NO_WINDOW: Final = StoredWindow(window="", status="")


def stored_of(item: Item, *, index_key: str = "status") -> Stored:
    """Read the fields for the checker from an item of the low-level API."""
    token = item.get("claimToken")
    sort_key = item.get("gsiSortKey")
    return Stored(
        event_id=item["id"]["S"],
        status=item["status"]["S"],
        retry_count=int(item["retryCount"]["N"]) if "retryCount" in item else 0,
        sort_key=None if sort_key is None else int(sort_key["N"]),
        token=None if token is None else token["S"],
        handled_by=tuple(sorted(item["handledBy"]["SS"])) if "handledBy" in item else (),
        indexed=sort_key is not None and index_key in item,
        unhandled_since=int(item["unhandledSince"]["N"]) if "unhandledSince" in item else None,
        window=item["window"]["S"] if "window" in item else None,
    )


def is_event(item: Item) -> bool:
    """Tell whether an item is an event: not a window, not a tombstone, and not the list of the workers."""
    return "status" in item and item["status"]["S"] not in (WINDOW, VOID)


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
) -> Written | WindowWritten | None:
    """Make the record of a change of an item; None if the item is neither an event nor a window.

    A tombstone counts as no item: an event that is stored over it is new.
    """
    facts: dict[str, Any] = {"at": at, "worker": worker, "began_at": began_at}
    known = [item for item in (old, new) if item is not None]
    if any(map(is_window, known)):
        before, after = (None if item is None else window_of(item) for item in (old, new))
        return WindowWritten(window=(before or after or _NO_WINDOW).window, before=before, after=after, **facts)
    if not any(map(is_event, known)):
        return None
    one, other = (stored_of(item, index_key=index_key) if item and is_event(item) else None for item in (old, new))
    return Written(event_id=known[0]["id"]["S"], before=one, after=other, **facts)


def final_state(items: Iterable[Item], *, at: float, index_key: str = "status") -> FinalState:
    """Read the final state from all items of a table."""
    listed = list(items)
    windows = [window_of(item) for item in listed if is_window(item)]
    return FinalState(
        at=at,
        events={item["id"]["S"]: stored_of(item, index_key=index_key) for item in listed if is_event(item)},
        windows={window.window: window for window in windows if window.is_open},
    )
