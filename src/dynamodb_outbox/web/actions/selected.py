"""Retries, skips and discards chosen events, and recovers events whose lease ran out."""

from __future__ import annotations

from urllib.parse import urlencode

from dynamodb_outbox.repairs import MOST_RETRIES, Repaired
from dynamodb_outbox.web.dead_letters import Repair
from dynamodb_outbox.web.http import BadRequestError, Response
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.web.text import packed, unpacked


async def retry(visit: Visit) -> Response:
    """Make chosen dead letters due again."""
    fences = _chosen(visit)
    if not visit.form.get("confirmed"):
        return _confirm(visit, "retry", fences)
    return await _repair(visit, "retried", fences, Repair(by=visit.by))


async def skip(visit: Visit) -> Response:
    """Let the ordering keys go on that chosen dead letters block."""
    fences = _chosen(visit)
    if not visit.form.get("confirmed"):
        return _confirm(visit, "skip", fences)
    return await _repair(visit, "skipped", fences, Repair(by=visit.by, skips=True))


async def discard(visit: Visit) -> Response:
    """Discard chosen events, with a reason."""
    fences = _chosen(visit)
    if not visit.form.get("confirmed"):
        return _confirm(visit, "discard", fences)
    return await _repair(visit, "discarded", fences, Repair(by=visit.by, reason=visit.reason()))


async def recover(visit: Visit) -> Response:
    """Recover every event whose lease ran out. The worker that claims it decides whether it has a retry left."""
    recovered = await visit.site.outbox.recover(max_retries=MOST_RETRIES)
    visit.site.changed()
    errors = [str(error) for error in recovered.errors]
    visit.log("recover", reset=recovered.reset, failed=recovered.failed, errors=errors)
    return visit.page("recovered.html", reset=recovered.reset, failed=recovered.failed, errors=errors)


def _chosen(visit: Visit) -> dict[str, str]:
    """Return the fence of each chosen event by its id: what this person saw of it."""
    fences: dict[str, str] = {}
    for field in visit.form.all("pick"):
        event_id, fence = unpacked(field, 2)
        if event_id is None or fence is None:
            raise BadRequestError("a chosen event cannot be read; go back, reload the page, and try again")
        fences[event_id] = fence
    if not fences:
        raise BadRequestError("no event was chosen; go back, and mark one or more")
    return fences


def _confirm(visit: Visit, action: str, fences: dict[str, str]) -> Response:
    picks = [(event_id, packed(event_id, fence)) for event_id, fence in fences.items()]
    return visit.page("confirm.html", action=action, picks=picks)


async def _repair(visit: Visit, done: str, fences: dict[str, str], repair: Repair) -> Response:
    repaired = await repair.apply_to(visit.site.outbox, fences)
    visit.site.changed()
    visit.log(done, done=repaired.done, refused=dict(repaired.refused), reason=repair.reason)
    if len(fences) == 1 and repaired.done:
        return Response.to(f"event?{urlencode({'id': repaired.done[0], 'note': done})}")
    return result(visit, done, repaired)


def result(visit: Visit, done: str, repaired: Repaired) -> Response:
    """Show the result for each event. Status 409 if nothing was changed."""
    return visit.page("result.html", status=200 if repaired.done else 409, done=done, repaired=repaired)
