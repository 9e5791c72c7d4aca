"""Replaces a dead letter by a new event with an edited payload."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from dynamodb_outbox import typed_json
from dynamodb_outbox.bus_operations import REPLACES
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import Event
from dynamodb_outbox.event_errors import OutboxError
from dynamodb_outbox.repairing import check_reason
from dynamodb_outbox.stored_events import StoredEvent
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.pages.events import find_event, may_replace
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.web.text import unpacked
from dynamodb_outbox.wording import describe

MOST_COMPARED: Final = 4_000
"""The lines of two payloads that are compared. More would keep the event loop busy for too long."""


async def edit(visit: Visit) -> Response:
    """Show the payload of a dead letter in a form."""
    stored = await _editable(visit, visit.request.query.get("event"))
    return _form(visit, stored, typed_json.to_json(stored.payload, indent=2))


async def replace(visit: Visit) -> Response:
    """Store the new event and discard the old one, in one transaction."""
    stored = await _editable(visit, visit.form.get("event"))
    text, reason = visit.form.get("payload"), visit.form.get("reason").strip()
    try:
        if stored.fence != unpacked(visit.form.get("fence"), 1)[0]:
            raise _RefusedError("The event has changed since you opened this page.", status=409)
        event = _new_event(stored, text, reason)
        if not visit.form.get("confirmed"):
            return _form(visit, stored, text, reason=reason, confirm=True)
        await _store(visit, stored, event, reason)
    except _RefusedError as error:
        return _form(visit, stored, text, error=str(error), reason=reason, status=error.status)
    return Response.to(f"event?{urlencode({'id': event.id, 'note': 'replaced'})}")


class _RefusedError(BadRequestError):
    """Shown above the form, which keeps what the person has typed."""


def _new_event(stored: StoredEvent, text: str, reason: str) -> Event:
    try:
        check_reason(reason)
        payload, metadata = typed_json.from_json(text), {**stored.metadata, REPLACES: stored.id}
        return Event(
            stored.type,
            payload,
            occurred_at=stored.occurred_at,
            metadata=metadata,
            ordering_key=stored.ordering_key,
        )
    except (ValueError, OutboxError) as error:
        raise _RefusedError(f"This cannot be stored: {error}") from error


async def _store(visit: Visit, stored: StoredEvent, event: Event, reason: str) -> None:
    try:
        repaired = await visit.site.outbox.replace(stored.id, event, reason=reason, by=visit.by)
    except StorageError:
        raise  # whether DynamoDB answers has nothing to do with what was typed
    except OutboxError as error:
        raise _RefusedError(describe(error)) from error
    visit.site.changed()
    visit.log("replace", id=stored.id, done=repaired.done, refused=dict(repaired.refused), new=event.id, reason=reason)
    if not repaired.done:
        raise _RefusedError("The event has changed meanwhile.", status=409)


async def _editable(visit: Visit, field: str) -> StoredEvent:
    (event_id,) = unpacked(field, 1)
    stored = await find_event(visit, event_id or "")
    if not may_replace(visit, visit.see(stored)):
        raise BadRequestError(
            "only a dead letter whose payload you see whole can be replaced: redacted parts would be lost", status=409
        )
    return stored


def _form(
    visit: Visit,
    stored: StoredEvent,
    text: str,
    *,
    error: str = "",
    reason: str = "",
    confirm: bool = False,
    status: int = 200,
) -> Response:
    before = typed_json.to_json(stored.payload, indent=2)
    return visit.page(
        "replace.html",
        event=stored,
        text=text,
        changes=_changes(before, text) if confirm else [],
        error=error,
        reason=reason,
        confirm=confirm,
        status=status,
    )


def _changes(before: str, after: str) -> list[str]:
    """Compare two payloads line by line. The new one is written as the old one is, so only changes show."""
    import difflib  # noqa: PLC0415 - it takes a while to import, and edits are rare

    written = typed_json.to_json(typed_json.from_json(after), indent=2)
    old, new = before.split("\n"), written.split("\n")
    if len(old) + len(new) > MOST_COMPARED:
        return ["  the payload is too long to compare"]
    return list(difflib.unified_diff(old, new, lineterm="", n=5))[2:]
