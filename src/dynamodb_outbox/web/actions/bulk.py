"""Retries or discards all dead letters of a selection: a page says how many, then steps follow until the end.

Each step is a request, which carries all that the next one needs. So the work may stop at any step, go on in another
process, and needs no script; with the script, the page sends the next step by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from dynamodb_outbox.web.dead_letters import Repair, Selection, repair_step, survey
from dynamodb_outbox.web.http import BadRequestError, Fields, Response
from dynamodb_outbox.web.site import Visit
from dynamodb_outbox.web.text import unpacked, unpacked_time

SIZES: Final = (10, 25, 100)
"""How many events a step may change. With the script, there is a step every two seconds."""
_MOST_LISTED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a repair of many events stands."""

    selection: Selection
    before: datetime
    size: int
    after: str | None
    done: int
    refused: int

    @classmethod
    def parse(cls, form: Fields) -> Self:
        """Read the fields of the form of a step. Raises `BadRequestError` if they cannot be read."""
        try:
            size, done, refused = (int(form.get(name, "0")) for name in ("size", "done", "refused"))
        except ValueError as error:
            raise BadRequestError("the numbers of the form cannot be read; go back to the dead letters") from error
        return cls(
            selection=Selection.parse(form.get("selection")),
            before=unpacked_time(form.get("before")),
            size=size if size in SIZES else SIZES[0],
            after=unpacked(form.get("after", "-"), 1)[0],
            done=done,
            refused=refused,
        )


async def retry_many(visit: Visit) -> Response:
    """Make one step of a bulk retry."""
    return await _step(visit, "retry", Repair(by=visit.by))


async def discard_many(visit: Visit) -> Response:
    """Make one step of a bulk discard."""
    return await _step(visit, "discard", Repair(by=visit.by, reason=visit.reason()))


async def confirm_retry_many(visit: Visit) -> Response:
    """Count what a bulk retry would change, and ask."""
    return await _confirm(visit, "retry")


async def confirm_discard_many(visit: Visit) -> Response:
    """Count what a bulk discard would change, and ask for a reason."""
    return await _confirm(visit, "discard")


async def _confirm(visit: Visit, action: str) -> Response:
    selection = Selection.parse(visit.request.query.get("selection"))
    counted = await survey(visit.site.outbox, selection, before=visit.now)
    return visit.page(
        "confirm_many.html",
        action=action,
        selection=selection,
        before=visit.now,
        count=sum(group.count for group in counted.groups),
        counted=counted,
        sizes=SIZES,
    )


async def _step(visit: Visit, action: str, repair: Repair) -> Response:
    progress = Progress.parse(visit.form)
    step = await repair_step(
        visit.site.outbox,
        progress.selection,
        repair,
        before=progress.before,
        after=progress.after,
        limit=progress.size,
    )
    visit.site.changed()
    visit.log(
        f"{action}_many", selection=progress.selection, done=step.done, refused=step.refused, reason=repair.reason
    )
    return visit.page(
        "progress.html",
        action=action,
        progress=progress,
        step=step,
        done=progress.done + len(step.done),
        refused=progress.refused + len(step.refused),
        reason=repair.reason,
        listed=list(step.refused.items())[:_MOST_LISTED],
    )
