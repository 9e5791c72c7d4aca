"""This process: its types and their holds, its worker, its health."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.web.activity import TypeActivity
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.json_views import health_json, json_response
from dynamodb_outbox.web.pages.events import handler_names
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.wording import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """One type: its handlers and counts in this process, and its hold."""

    name: str
    handlers: list[str]
    activity: TypeActivity
    hold: Hold | None


async def types(visit: Visit) -> Response:
    """List the types that this process has handlers for, that it has handled, or that are held."""
    holds = await visit.site.holds.get()
    held = {hold.type: hold for hold in holds}
    bus = visit.site.bus
    names = set(bus.event_types() if bus else ()) | set(visit.site.activity.types)
    names |= {name for name in held if name is not None}
    rows = [
        TypeRow(
            name=name,
            handlers=handler_names(visit, name),
            activity=visit.site.activity.types.get(name, TypeActivity()),
            hold=held.get(name),
        )
        for name in sorted(names)
    ]
    return visit.page("types.html", rows=rows, hold_all=held.get(None), since=visit.site.activity.seconds)


async def worker(visit: Visit) -> Response:
    """Show the worker of this process, and the options of the outbox."""
    options = visit.site.outbox.options
    health = visit.site.health()
    return visit.page(
        "worker.html",
        running=None if visit.site.bus is None else visit.site.bus.running,
        slots=options.slots,
        health=health,
        options=[(field.name, _option(getattr(options, field.name))) for field in fields(options)],
        library=version("dynamodb-outbox"),
    )


def _option(value: Any) -> str:
    return getattr(value, "__qualname__", None) or shown(value)


async def health(visit: Visit) -> Response:
    """Show the checks of this process."""
    return visit.page("health.html", health=visit.site.health())


async def health_json_page(visit: Visit) -> Response:
    """Give a program the health of this process. For probes, see `integrations`: they need no role."""
    health = visit.site.health()
    if health is None:
        raise BadRequestError("this dashboard has an outbox, and no bus whose health it could show", status=404)
    return json_response("health", health_json(health))
