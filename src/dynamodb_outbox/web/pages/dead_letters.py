"""Dead letters in groups, and their export."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dynamodb_outbox import typed_json
from dynamodb_outbox.web.access import Role
from dynamodb_outbox.web.dead_letters import Selection, exported
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.json_views import event_json, group_json, json_response
from dynamodb_outbox.web.site import Visit


async def dead_letters(visit: Visit) -> Response:
    """Show the groups, the largest first."""
    survey = await visit.site.dead_letters.get()
    return visit.page(
        "dead_letters.html",
        survey=survey,
        groups=[(group, visit.see(group.sample)) for group in survey.groups],
        everything=Selection(),
        can_retry=visit.access.may(Role.RETRY),
        can_discard=visit.access.may(Role.DISCARD),
        can_export=visit.access.may(Role.PAYLOAD),
    )


async def dead_letters_json(visit: Visit) -> Response:
    """Give a program the groups."""
    survey = await visit.site.dead_letters.get()
    groups = [group_json(group) for group in survey.groups]
    return json_response("groups", {"groups": groups, "examined": survey.examined, "is_complete": survey.is_complete})


async def export(visit: Visit) -> Response:
    """Send every dead letter of a selection as one JSON object per line."""
    field = visit.request.query.get("selection")
    if not field:
        raise BadRequestError("the export needs a selection; use the links of the dead letters")
    selection = Selection.parse(field)
    visit.log("export", selection=selection)
    headers = {
        "content-type": "application/x-ndjson",
        "content-disposition": 'attachment; filename="dead-letters.jsonl"',
    }
    return Response(_lines(visit, selection), 200, headers)


async def _lines(visit: Visit, selection: Selection) -> AsyncIterator[bytes]:
    async for event in exported(visit.site.outbox, selection):
        yield f"{typed_json.to_json(event_json(visit.see(event)))}\n".encode("utf-8", "replace")
