"""The overview: how the outbox is, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Count, EventState, Sample
from dynamodb_outbox.web import charts
from dynamodb_outbox.web.activity import INTERVAL
from dynamodb_outbox.web.http import Response
from dynamodb_outbox.web.json_views import finding_json, health_json, json_response, plain, sample_json
from dynamodb_outbox.web.site import Site, Visit
from dynamodb_outbox.web.verdict import Finding, findings
from dynamodb_outbox.wording import describe

STATES: Final = {
    EventState.DUE: "waits for a worker",
    EventState.SCHEDULED: "has a delay or a retry ahead",
    EventState.PROCESSING: "a worker holds it",
    EventState.EXPIRED: "its lease ran out",
    EventState.HELD: "waits for a resume",
    EventState.FAILED: "is a dead letter",
}
"""The states that can be listed, in the order of a life, with what each means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The latest sample and the holds; `error` says why they could not be read."""

    sample: Sample | None = None
    holds: Sequence[Hold] = ()
    error: str = ""


async def read(site: Site) -> Reading:
    """Read the outbox, at most once in 15 seconds for all viewers. Raises no `StorageError`: the error is shown."""
    try:
        return Reading(sample=await site.sample(), holds=await site.holds.get())
    except StorageError as error:
        return Reading(error=describe(error))


async def overview(visit: Visit) -> Response:
    """Show the verdict, the counts, and what this process does."""
    reading = await read(visit.site)
    found = _findings(visit, reading)
    activity = visit.site.activity
    points = activity.points()
    throughput = charts.bars(
        f"Events in each {INTERVAL:.0f} seconds, in this process",
        [
            charts.Series("completed", "completed", [point.completed for point in points]),
            charts.Series("retried", "retried", [point.retried for point in points]),
            charts.Series("failed", "failed", [point.failed for point in points]),
        ],
    )
    due = charts.line("Due events", [sample.due.at_least for sample in visit.site.history])
    return visit.page(
        "overview.html",
        reading=reading,
        first=found[0],
        others=found[1:],
        counts=_counts(reading.sample),
        total=activity.total(),
        since=activity.seconds,
        throughput=throughput,
        due=due,
        runbook=visit.site.options.runbook_url,
        held_all=any(hold.type is None for hold in reading.holds),
    )


async def overview_json(visit: Visit) -> Response:
    """Give a program what the overview shows."""
    reading = await read(visit.site)
    found = _findings(visit, reading)
    health = visit.site.health()
    return json_response(
        "overview",
        {
            "table": visit.site.table,
            "level": found[0].level,
            "findings": [finding_json(finding) for finding in found],
            "sample": None if reading.sample is None else sample_json(reading.sample),
            "holds": plain(reading.holds),
            "health": None if health is None else health_json(health),
        },
    )


def _findings(visit: Visit, reading: Reading) -> list[Finding]:
    health = visit.site.worker_health()
    return findings(visit.now, reading.sample, error=reading.error, health=health, holds=reading.holds)


def _counts(sample: Sample | None) -> list[tuple[EventState, Count | None, str]]:
    return [(state, None if sample is None else getattr(sample, state.value), why) for state, why in STATES.items()]
