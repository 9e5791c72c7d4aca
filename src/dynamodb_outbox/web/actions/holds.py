"""Holds a type or the whole outbox, and resumes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from dynamodb_outbox import holding
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.web.text import unpacked

DURATIONS: Final = {"15": "15 minutes", "60": "1 hour", "480": "8 hours", "": "until somebody resumes"}
"""The choices of a hold, in minutes."""


async def hold(visit: Visit) -> Response:
    """Stop all workers from starting events of a type, or of all types."""
    held = _type(visit)
    minutes = visit.form.get("minutes")
    if minutes not in DURATIONS:
        raise BadRequestError("choose for how long from the list")
    if not visit.form.get("confirmed"):
        return visit.page("confirm_hold.html", type=held, durations=DURATIONS)
    until = visit.now + timedelta(minutes=int(minutes)) if minutes else None
    reason = visit.reason()
    await holding.hold(visit.site.outbox, held, reason=reason, by=visit.by, until=until)
    visit.site.changed()
    visit.log("hold", type=held, until=until, reason=reason)
    return Response.to("types")


async def resume(visit: Visit) -> Response:
    """End a hold, and make the events that it held due again."""
    held = _type(visit)
    moved = await visit.site.outbox.resume(held)
    visit.site.changed()
    visit.log("resume", type=held, moved=moved)
    return Response.to("types")


def _type(visit: Visit) -> str | None:
    """Return the type that was typed in, or that of a button; None for all types."""
    return visit.form.get("name").strip() or unpacked(visit.form.get("type"), 1)[0]
