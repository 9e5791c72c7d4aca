"""Every address of the dashboard, with the roles that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dynamodb_outbox.web.access import Role
from dynamodb_outbox.web.actions import bulk, holds, replace, selected
from dynamodb_outbox.web.pages import dead_letters, events, overview, process
from dynamodb_outbox.web.pages.assets import asset
from dynamodb_outbox.web.router import Route
from dynamodb_outbox.web.static import FILES

_VIEW: Final = (Role.VIEW,)
_RETRY: Final = (Role.VIEW, Role.RETRY)
_DISCARD: Final = (Role.VIEW, Role.DISCARD)
_PAUSE: Final = (Role.VIEW, Role.PAUSE)
_EDIT: Final = (Role.VIEW, Role.PAYLOAD, Role.EDIT)

ROUTES: Final[Mapping[str, Route]] = {
    "/": Route(_VIEW, get=overview.overview),
    "/events": Route(_VIEW, get=events.events),
    "/event": Route(_VIEW, get=events.event),
    "/dead-letters": Route(_VIEW, get=dead_letters.dead_letters),
    "/dead-letters.jsonl": Route((Role.VIEW, Role.PAYLOAD), get=dead_letters.export),
    "/types": Route(_VIEW, get=process.types),
    "/worker": Route(_VIEW, get=process.worker),
    "/health": Route(_VIEW, get=process.health),
    "/api/overview.json": Route(_VIEW, get=overview.overview_json),
    "/api/events.json": Route(_VIEW, get=events.events_json),
    "/api/event.json": Route(_VIEW, get=events.event_json_page),
    "/api/dead-letters.json": Route(_VIEW, get=dead_letters.dead_letters_json),
    "/api/health.json": Route(_VIEW, get=process.health_json_page),
    "/retry": Route(_RETRY, post=selected.retry),
    "/skip": Route(_RETRY, post=selected.skip),
    "/discard": Route(_DISCARD, post=selected.discard),
    "/recover": Route(_RETRY, post=selected.recover),
    "/retry-many": Route(_RETRY, get=bulk.confirm_retry_many, post=bulk.retry_many),
    "/discard-many": Route(_DISCARD, get=bulk.confirm_discard_many, post=bulk.discard_many),
    "/replace": Route(_EDIT, get=replace.edit, post=replace.replace),
    "/hold": Route(_PAUSE, post=holds.hold),
    "/resume": Route(_PAUSE, post=holds.resume),
    **{f"/static/{name}": Route(_VIEW, get=asset(name)) for name in FILES},
}
