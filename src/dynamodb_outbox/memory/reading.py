"""Reads events of an `InMemoryOutbox` for operators: one event, and pages of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dynamodb_outbox.cursors import Cursor, read_cursor
from dynamodb_outbox.dynamodb.items.stored import decode_stored
from dynamodb_outbox.event import EventStatus, FailedEvent
from dynamodb_outbox.event_states import EXAMINED, STATUS_OF, listed_state, state_of
from dynamodb_outbox.memory import storage
from dynamodb_outbox.memory.table import Table
from dynamodb_outbox.port import OutboxOptions
from dynamodb_outbox.stored_events import Count, EventState, Page, StoredEvent

Events = Mapping[str, storage.StoredEvent]


def read_event(stored: storage.StoredEvent, table: Table, options: OutboxOptions) -> StoredEvent | None:
    """Read an event as it is now."""
    event = decode_stored(stored.as_item(), numbers=options.numbers, now=options.clock())
    queue = None if stored.status in (EventStatus.COMPLETED, EventStatus.DISCARDED) else table.queue_at(stored)
    if event is None or queue is None:
        return event if event is None else replace(event, waits_for=table.front_before(stored))
    return replace(event, waiting_behind=Count(at_least=queue.waiting, is_exact=True))


def dead_letters(table: Table, options: OutboxOptions, *, type: str | None) -> list[FailedEvent]:
    """List the dead letters, the latest first."""
    failed = [stored for stored in table.rows.values() if stored.status is EventStatus.FAILED]
    failed.sort(key=lambda stored: stored.sort_key or 0, reverse=True)
    listed = [
        stored.as_dead_letter(numbers=options.numbers, blocks_key=table.queue_at(stored) is not None)
        for stored in failed
    ]
    return [event for event in listed if type in (None, event.type)]


def page_of(
    table: Table,
    state: EventState | str,
    options: OutboxOptions,
    *,
    type: str | None,
    after: str | None,
    limit: int,
) -> Page:
    """List the events of a state, from a cursor on."""
    state = listed_state(state)
    cursor = Cursor(state=state, now=round(options.clock() * 1000), partitions=1)
    if after is not None:
        cursor = read_cursor(after, state=state, partitions=1)
    left = _after(cursor, table.rows)
    found: list[StoredEvent] = []
    examined = 0
    for examined, (sort_key, stored) in enumerate(left, 1):
        event = read_event(stored, table, options)
        if event is not None and event.state is state and type in (None, event.type) and not table.is_left(stored):
            found.append(event)
        is_full = len(found) == limit or examined == max(limit, EXAMINED)
        if is_full and examined < len(left):
            cursor = replace(cursor, sort_key=str(sort_key), id=stored.event_id)
            return Page(events=tuple(found), after=cursor.text, examined=examined)
        if is_full:
            break
    return Page(events=tuple(found), after=None, examined=examined)


def _after(cursor: Cursor, events: Events) -> list[tuple[int, storage.StoredEvent]]:
    """List the events of the cursor's state that come after its event, in order, with their sort keys."""
    rows = _rows(events, cursor.state, cursor.now)
    if not cursor.sort_key:
        return rows
    places = {event_id: place for place, event_id in enumerate(events)}
    sign = -1 if cursor.state is EventState.FAILED else 1
    last = (sign * int(cursor.sort_key), places.get(cursor.id, -1))
    return [row for row in rows if (sign * row[0], places[row[1].event_id]) > last]


def _rows(events: Events, state: EventState, now: int) -> list[tuple[int, storage.StoredEvent]]:
    """List the events that are in a state at `now` (epoch milliseconds), in order, with their sort keys."""
    rows = [
        (stored.sort_key, stored)
        for stored in events.values()
        if stored.sort_key is not None
        and stored.status is STATUS_OF[state]
        and state_of(stored.status, stored.sort_key, now=now) is state
    ]
    return sorted(rows, key=lambda row: row[0], reverse=state is EventState.FAILED)
