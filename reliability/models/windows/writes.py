"""The conditional writes: what each asks for, and what it changes. `None` means that its condition refuses it.

The names are the names in `dynamodb_outbox.dynamodb.conditional.transitions`, as far as they exist there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reliability.models.windows.rules import Rules
from reliability.models.windows.state import (
    CLOSED,
    COMPLETED,
    FAILED,
    HOLDER,
    PENDING,
    PROCESSING,
    TOMBSTONE,
    VOID,
    Item,
    State,
    WindowItem,
    Write,
    lease_of_window,
    with_item,
    with_window,
)


def apply(rules: Rules, state: State, write: Write) -> State | None:
    """Carry out a write; None if it is refused."""
    of_window = _OF_WINDOWS.get(write.name)
    if of_window is not None:
        return of_window(rules, state, write)
    item = _OF_ITEMS[write.name](rules, state.items[write.target], write)
    return None if item is None else with_item(state, write.target, item)


# Writes of window items


def _open(rules: Rules, state: State, write: Write) -> State | None:
    if state.windows[write.target] is not None and rules.open_needs_a_free_id:
        return None
    return with_window(state, write.target, WindowItem(HOLDER, write.start, write.end, 0, 0))


def _extend(rules: Rules, state: State, write: Write) -> State | None:
    stored = state.windows[write.target]
    if rules.extend_needs_the_token and (stored is None or stored.token != HOLDER):
        return None
    if rules.extend_needs_the_version and stored is not None and stored.version > write.version:
        return None
    token, lease = (HOLDER, 0) if stored is None else (stored.token, stored.lease)
    window = WindowItem(token, write.start, write.end, write.version, lease + 1)
    # The lease goes on: it only seemed to have run out.
    expired = state.expired - {lease_of_window(write.target)}
    return with_window(state, write.target, window)._replace(expired=expired)


def _take(rules: Rules, state: State, write: Write) -> State | None:
    stored = state.windows[write.target]
    if stored is None or stored == CLOSED or (stored.lease != write.seen and rules.take_needs_the_lease_seen):
        return None
    if not rules.recoverers_take_the_window:
        return state
    return with_window(state, write.target, stored._replace(token=write.token, lease=stored.lease + 1))


def _close(rules: Rules, state: State, write: Write) -> State | None:
    stored = state.windows[write.target]
    needs_token = rules.close_needs_the_token and rules.recoverers_take_the_window
    if stored is None or stored == CLOSED or (needs_token and stored.token != write.token):
        return None
    return with_window(state, write.target, CLOSED if rules.windows_are_closed_not_deleted else None)


def _delete(rules: Rules, state: State, write: Write) -> State | None:
    stored = state.windows[write.target]
    if stored is None or (rules.delete_needs_the_token and stored.token != write.token):
        return None
    return with_window(state, write.target, None)


# Writes of events and tombstones: the item after the write


def _insert(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    if stored is not None and rules.insert_needs_a_free_id:
        return None
    return Item(PROCESSING, write.token, window=write.window)


def _is_taken(rules: Rules, stored: Item | None) -> bool:
    return stored is not None and (stored.status != VOID or not rules.put_replaces_a_tombstone)


def _put_claimed(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    return None if _is_taken(rules, stored) else Item(PROCESSING, write.token, is_listed=True)


def _put_pending(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    return None if _is_taken(rules, stored) else Item(PENDING, is_listed=True)


def _void(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    return TOMBSTONE if stored is None or not rules.tombstone_needs_a_free_id else None


def _may_enter(rules: Rules, stored: Item | None, write: Write) -> bool:
    return (
        stored is not None
        and stored.status != VOID
        and (stored.status == PROCESSING or not rules.enter_needs_processing)
        and (not stored.is_listed or not rules.enter_needs_an_unlisted_event)
        and (stored.window == write.window or not rules.enter_needs_the_window)
    )


def _enter(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    if stored is None or not _may_enter(rules, stored, write):
        return None
    return stored._replace(status=PENDING, is_listed=True)


def _enter_failed(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    if stored is None or not _may_enter(rules, stored, write):
        return None
    return stored._replace(status=FAILED, is_listed=True)


def _claim(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    if stored is None:
        return None
    is_due = stored.status == PENDING and stored.is_listed
    if not is_due and (stored.status != PROCESSING or stored.token != write.token):
        return None
    return stored._replace(status=PROCESSING, token=write.token, is_listed=True)


def _recover(rules: Rules, stored: Item | None, write: Write) -> Item | None:
    # The token stands for the end of the lease that the recovery has seen.
    if stored is None or not stored.is_listed or stored.status != PROCESSING or stored.token != write.token:
        return None
    return stored._replace(status=PENDING)


def _settle(status: str, *accepted: str, is_listed: bool) -> Callable[[Rules, Item | None, Write], Item | None]:
    def settle(rules: Rules, stored: Item | None, write: Write) -> Item | None:
        if stored is None or stored.token != write.token or stored.status not in accepted:
            return None
        return stored._replace(status=status, is_listed=is_listed)

    return settle


_OF_WINDOWS: Final = {"OPEN": _open, "EXTEND": _extend, "TAKE": _take, "CLOSE": _close, "DELETE": _delete}
_OF_ITEMS: Final[dict[str, Callable[[Rules, Item | None, Write], Item | None]]] = {
    "INSERT": _insert,
    "PUT": _put_claimed,
    "PUT PENDING": _put_pending,
    "VOID": _void,
    "ENTER": _enter,
    "ENTER FAILED": _enter_failed,
    "CLAIM": _claim,
    "RECOVER": _recover,
    "COMPLETE": _settle(COMPLETED, PENDING, PROCESSING, COMPLETED, is_listed=False),
    "RETRY": _settle(PENDING, PENDING, PROCESSING, is_listed=True),
    "FAIL": _settle(FAILED, PENDING, PROCESSING, FAILED, is_listed=True),
    "RELEASE": _settle(PENDING, PROCESSING, is_listed=True),
    "RENEW": _settle(PROCESSING, PROCESSING, is_listed=True),
}
