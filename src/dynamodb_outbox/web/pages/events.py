"""Lists of events by state, and one event."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final
from urllib.parse import urlencode

from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.repairs import DISCARDABLE
from dynamodb_outbox.stored_events import EventState, StoredEvent
from dynamodb_outbox.web.access import Role
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.json_views import event_json, json_response
from dynamodb_outbox.web.pages.overview import STATES
from dynamodb_outbox.web.redaction import VisibleEvent
from dynamodb_outbox.web.site import Visit

PAGE_SIZE: Final = 50
NOTES: Final = {
    "retried": "The event is due again, with all its retries. Handlers that succeeded do not run again.",
    "skipped": "The event is set aside: its ordering key goes on without it. It stays a dead letter. A retry puts it "
    "to the end of its line.",
    "discarded": "The event is discarded: it will not be delivered, and its id stays taken.",
    "replaced": "This event replaces the discarded one.",
}
"""The sentences that a redirect after an action may ask for."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


async def events(visit: Visit) -> Response:
    """List a page of the events of one state, in the order of the index."""
    state, wanted, after = _asked(visit)
    page = await visit.site.outbox.list_events(state, type=wanted, after=after, limit=PAGE_SIZE)
    query = {"state": state.value} | ({"type": wanted} if wanted else {})
    return visit.page(
        "events.html",
        state=state,
        states=STATES,
        type=wanted or "",
        rows=[visit.see(event) for event in page.events],
        examined=page.examined,
        following=f"events?{urlencode(query | {'after': page.after})}" if page.after else None,
        is_first=after is None,
        selectable=_selectable(visit, state),
    )


async def events_json(visit: Visit) -> Response:
    """Give a program a page of the events of one state, with the cursor of the next page."""
    state, wanted, after = _asked(visit)
    page = await visit.site.outbox.list_events(state, type=wanted, after=after, limit=PAGE_SIZE)
    shown = [event_json(visit.see(event)) for event in page.events]
    return json_response("events", {"events": shown, "after": page.after, "examined": page.examined})


async def event(visit: Visit) -> Response:
    """Show everything about one event. Reads the event itself, so the page is never older than the table."""
    stored = await _asked_for(visit)
    seen = visit.see(stored)
    table, shown_id = shlex.quote(visit.site.table), shlex.quote(stored.id)
    if stored.id.startswith("-"):
        shown_id = f"-- {shown_id}"
    return visit.page(
        "event.html",
        seen=seen,
        event=seen.event,
        explanation=_explanation(seen.event),
        handlers=_handlers(visit, seen.event),
        note=NOTES.get(visit.request.query.get("note"), ""),
        command=f"dynamodb-outbox --table {table} events show {shown_id}",
        code=_code(seen.event),
        trace=_trace(visit, seen.event),
        can_retry=stored.status is EventStatus.FAILED and visit.access.may(Role.RETRY),
        can_skip=stored.blocks_key and visit.access.may(Role.RETRY),
        can_discard=stored.status in DISCARDABLE and visit.access.may(Role.DISCARD),
        can_replace=may_replace(visit, seen),
    )


async def event_json_page(visit: Visit) -> Response:
    """Give a program everything about one event."""
    stored = await _asked_for(visit)
    return json_response("event", event_json(visit.see(stored)))


async def _asked_for(visit: Visit) -> StoredEvent:
    """Read the event with an id, or the one at the front of the line of an ordering key."""
    key, event_id = visit.request.query.get("ordering_key"), visit.request.query.get("id")
    if key and event_id:
        raise BadRequestError("give either an id or an ordering key")
    if not key:
        return await find_event(visit, event_id)
    stored = await visit.site.outbox.get_front(key)
    if stored is None:
        raise BadRequestError("no event is at the front of this ordering key", status=404)
    return stored


async def find_event(visit: Visit, event_id: str) -> StoredEvent:
    """Read an event. Raises `BadRequestError` (404) if the event is not stored."""
    stored = await visit.site.outbox.get(event_id) if event_id else None
    if stored is None:
        raise BadRequestError(
            "there is no event with this id; it may never have been stored, or its retention may be over", status=404
        )
    return stored


def may_replace(visit: Visit, seen: VisibleEvent) -> bool:
    """Tell whether this person may replace an event. A redacted payload cannot be edited: the rest would be lost."""
    has_roles = visit.access.may(Role.EDIT) and visit.access.may(Role.PAYLOAD)
    is_whole = seen.hidden is None and not seen.is_redacted and seen.event.unreadable is None
    return has_roles and is_whole and seen.event.status is EventStatus.FAILED


def _asked(visit: Visit) -> tuple[EventState, str | None, str | None]:
    query = visit.request.query
    try:
        state = EventState(query.get("state", EventState.DUE))
    except ValueError:
        state = EventState.COMPLETED
    if state not in STATES:
        raise BadRequestError("events of this state cannot be listed; find a completed or discarded event by its id")
    return state, query.get("type") or None, query.get("after") or None


def _selectable(visit: Visit, state: EventState) -> list[str]:
    """Return the actions for selected events of a state."""
    retry = ["retry"] if state is EventState.FAILED and visit.access.may(Role.RETRY) else []
    discarded = {EventState.FAILED, EventState.DUE, EventState.SCHEDULED, EventState.HELD}
    return retry + (["discard"] if state in discarded and visit.access.may(Role.DISCARD) else [])


def _handlers(visit: Visit, event: StoredEvent) -> list[tuple[str, bool]]:
    """List the handlers of the type in this process and the successful ones, each with whether it succeeded."""
    names = set(event.handled_by) | set(handler_names(visit, event.type))
    return [(name, name in event.handled_by) for name in sorted(names)]


def handler_names(visit: Visit, type: str) -> list[str]:
    """Return the names of the handlers that this process has for a type."""
    return [] if visit.site.bus is None else visit.site.bus.handler_names(type)


def _explanation(event: StoredEvent) -> str:
    """Say which write made the state of an event what it is."""
    attempt = event.retry_count + 1
    sentences = {
        EventState.DUE: "It is stored, and any worker with a free slot takes it."
        if not event.retry_count
        else f"Attempt {event.retry_count} failed, and the event is due again.",
        EventState.SCHEDULED: "It was emitted with a delay, and is not due yet."
        if not event.retry_count
        else f"Attempt {event.retry_count} failed, and the next one is ahead.",
        EventState.PROCESSING: f"A worker has claimed it, for attempt {attempt}, until the end of its lease.",
        EventState.EXPIRED: f"A worker claimed it for attempt {attempt}, and has not renewed its lease. Recovery makes "
        "it due again.",
        EventState.HELD: "Its type is held. It is due again once somebody resumes the type.",
        EventState.WAITING: "It waits behind an earlier event of its ordering key."
        if event.waits_for
        else "Its emit has not put it into the line of its ordering key. If the emit is over, no worker finds it: emit "
        "it again with its id, or discard it.",
        EventState.FAILED: f"Attempt {attempt} failed, and there is no further one."
        + (" The later events of its ordering key wait for it." if event.blocks_key else ""),
        EventState.COMPLETED: "Every handler succeeded.",
        EventState.DISCARDED: f"{event.discarded_by or 'Somebody'} has decided that it is never delivered.",
    }
    if event.state in (EventState.DUE, EventState.SCHEDULED) and event.unhandled_since is not None:
        others = " The later events of its ordering key wait for it." if event.ordering_key else ""
        return f"No worker had a handler for its type so far: start the service that has one.{others}"
    return sentences[event.state]


def _code(event: StoredEvent) -> str:
    """Write the event as Python, to try a handler with it."""
    metadata = f", metadata={dict(event.metadata)!r}" if event.metadata else ""
    key = f", ordering_key={event.ordering_key!r}" if event.ordering_key else ""
    return f"Event({event.type!r}, {event.payload!r}, id={event.id!r}{key}{metadata})"


def _trace(visit: Visit, event: StoredEvent) -> str | None:
    """Return the address of the trace of an event, if it has one and the application has said where traces are."""
    carrier: Any = event.metadata.get("traceparent")
    found = _TRACEPARENT.fullmatch(carrier) if isinstance(carrier, str) else None
    url = visit.site.options.trace_url
    return None if found is None or url is None else url.replace("{trace_id}", found.group(1))
