"""Says in words how an outbox is: the most important finding first, each with its reason and the next step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from dynamodb_outbox.health import Health, HealthStatus
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Sample
from dynamodb_outbox.web.text import away, duration

LAGGING_SECONDS: Final = 60.0
STUCK_SECONDS: Final = 300.0
OLD_SAMPLE_SECONDS: Final = 60.0
_SAMPLED: Final = frozenset({"sample", "oldest_due", "dead_letters"})
"""Checks of a sample, which has findings of its own here."""


_OF_CHECKS: Final = {"slots": "outboxsaturated", "leases": "outboxleaselost", "storage": "outboxstorageerrors"}


class Level(StrEnum):
    """How bad a finding is; also the class of its colour."""

    STUCK = "stuck"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    HELD = "held"
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know. `page` is the page of the dashboard for the next step, and `command` the same in a shell.

    `runbook` is the heading of docs/how-to/runbook.md, as the anchor of a link.
    """

    level: Level
    title: str
    why: str
    next: str
    page: str = ""
    page_name: str = ""
    command: str = "dynamodb-outbox doctor"
    runbook: str = ""


def findings(
    now: datetime, sample: Sample | None, *, error: str = "", health: Health | None = None, holds: Sequence[Hold] = ()
) -> list[Finding]:
    """List everything that is the matter, the worst first. A healthy outbox has one finding that says so."""
    found = [
        *_of_reading(now, sample, error),
        *_of_holds(now, holds),
        *(_of_sample(now, sample, holds) if sample is not None else ()),
        *(_of_health(now, health) if health is not None else ()),
    ]
    order = list(Level)
    found.sort(key=lambda finding: order.index(finding.level))
    return found or [
        Finding(
            level=Level.HEALTHY,
            title="Healthy",
            why="No event has waited for longer than a minute, no lease has run out, and there are no dead letters.",
            next="Do nothing.",
            command="",
        )
    ]


def _of_reading(now: datetime, sample: Sample | None, error: str) -> Iterator[Finding]:
    if error:
        yield Finding(
            level=Level.UNKNOWN,
            title="The outbox cannot be read",
            why=error,
            next="Events are safe in the table, and wait. Check the credentials, the region and the table.",
            runbook="outboxstorageerrors",
        )
    elif sample is not None and (now - sample.at).total_seconds() > OLD_SAMPLE_SECONDS:
        yield Finding(
            level=Level.UNKNOWN,
            title="The numbers are old",
            why=f"The last sample was taken {away(sample.at, now)}.",
            next="Reload the page. If the sample stays old, this process is blocked: see Health.",
            page="health",
            page_name="Health",
            runbook="outboxsamplestale",
        )


def _of_holds(now: datetime, holds: Sequence[Hold]) -> Iterator[Finding]:
    for hold in holds:
        everything = hold.type is None
        until = f", until {away(hold.until, now).removeprefix('in ')} from now" if hold.until else ""
        yield Finding(
            level=Level.HELD,
            title="The whole outbox is held" if everything else f"The type {hold.type!r} is held",
            why=f"{hold.by} has held it for {duration((now - hold.since).total_seconds())}{until}: {hold.reason}",
            next="Resume it when the reason is gone. Events wait meanwhile, and none is lost.",
            page="types",
            page_name="Types and holds",
            command="dynamodb-outbox resume --all" if everything else "",
            runbook="outboxheldlong",
        )


def _of_sample(now: datetime, sample: Sample, holds: Sequence[Hold]) -> Iterator[Finding]:
    held = any(hold.type is None for hold in holds)
    if not held:
        yield from _of_due(sample)
    if sample.oldest_expired_age > LAGGING_SECONDS and (held or sample.oldest_due_age <= STUCK_SECONDS):
        yield _no_recovery(sample, Level.DEGRADED)
    yield from _of_blocked_keys(sample)
    if sample.failed.at_least:
        yield Finding(
            level=Level.DEGRADED,
            title=f"{sample.failed} dead {'letter' if str(sample.failed) == '1' else 'letters'}",
            why=f"Their last attempt failed, the latest {away(sample.latest_failed, now) or 'some time ago'}. "
            "They are not delivered until somebody decides.",
            next="See which errors they have. Fix the cause, then retry them, or discard them with a reason.",
            page="dead-letters",
            page_name="Dead letters",
            command="dynamodb-outbox failed groups",
            runbook="outboxdeadletters",
        )
    if sample.held.at_least and not holds:
        yield Finding(
            level=Level.DEGRADED,
            title=f"{sample.held} events are held, and no hold is in force",
            why="A resume was interrupted, or a worker had not noticed it yet.",
            next="Resume all types once more.",
            page="types",
            page_name="Types and holds",
            command="dynamodb-outbox resume --all",
            runbook="outboxheldlong",
        )


def _of_blocked_keys(sample: Sample) -> Iterator[Finding]:
    if sample.blocked_keys.at_least:
        yield Finding(
            level=Level.DEGRADED,
            title=f"{sample.blocked_keys} ordering {_keys_are(sample)} blocked",
            why="A dead letter is at the front of each. The later events of the key wait until somebody decides.",
            next="See the errors. Fix the cause and retry, or skip the event if the later ones may go on without it.",
            page="events?state=failed",
            page_name="Dead letters, one by one",
            command="dynamodb-outbox doctor",
            runbook="outboxkeysblocked",
        )
    elif sample.blocked_keys.is_unknown:
        yield Finding(
            level=Level.DEGRADED,
            title="Ordering keys may be blocked",
            why=f"None of the latest {sample.failed.at_least:,} dead letters blocks one. Older ones were not counted.",
            next="Retry or discard dead letters until all can be counted, or look up a key on the page Events.",
            page="events?state=failed",
            page_name="Dead letters, one by one",
            command="dynamodb-outbox failed groups",
            runbook="outboxkeysblocked",
        )


def _keys_are(sample: Sample) -> str:
    return "key is" if str(sample.blocked_keys) == "1" else "keys are"


def _of_due(sample: Sample) -> Iterator[Finding]:
    age = sample.oldest_due_age
    if age <= LAGGING_SECONDS:
        return
    waited = (
        f"{sample.due} {'event is' if str(sample.due) == '1' else 'events are'} due, the oldest for {duration(age)}"
    )
    if age <= STUCK_SECONDS:
        yield Finding(
            level=Level.DEGRADED,
            title="Events are late",
            why=f"{waited}.",
            next="See whether the number falls. If it grows, start more workers, or raise `concurrency`.",
            page="events?state=due",
            page_name="Due events",
            runbook="outboxlagging",
        )
    elif sample.oldest_expired_age > LAGGING_SECONDS:
        yield _no_recovery(sample, Level.STUCK, f"{waited}. ")
    elif not sample.processing.at_least:
        yield Finding(
            level=Level.STUCK,
            title="Stuck: no worker takes events",
            why=f"{waited}, and no event is being handled.",
            next="Check that a process runs `async with bus`, that it may read the index, and that it has handlers for "
            "the types of the due events.",
            page="events?state=due",
            page_name="Due events",
            runbook="outboxnoworker",
        )
    else:
        yield Finding(
            level=Level.STUCK,
            title="Stuck: workers are slower than events come",
            why=f"{waited}, while {sample.processing} are being handled.",
            next="See what the handlers wait for. If they are only slow, start more workers or raise `concurrency`.",
            page="events?state=processing",
            page_name="Events being handled",
            runbook="outboxstuck",
        )


def _no_recovery(sample: Sample, level: Level, due: str = "") -> Finding:
    title = "Stuck: the workers are gone" if level is Level.STUCK else "Leases ran out, and no worker recovers them"
    return Finding(
        level=level,
        title=title,
        why=f"{due}{sample.expired} leases ran out, the oldest {duration(sample.oldest_expired_age)} ago. A worker "
        "that runs recovers them within seconds.",
        next="See whether the processes of the workers run, and why they ended: out of memory, a crash loop, a deploy.",
        page="events?state=expired",
        page_name="Expired leases",
        runbook="outboxleasesnotrecovered",
    )


def _of_health(now: datetime, health: Health) -> Iterator[Finding]:
    """List what is the matter with this process. Other processes may be well, so the outbox is not stuck by it."""
    for check in health.checks:
        if check.status is not HealthStatus.HEALTHY and check.name not in _SAMPLED:
            since = f", for {duration((now - check.since).total_seconds())}" if check.since else ""
            yield Finding(
                level=Level.DEGRADED,
                title=f"This process: {check.name.replace('_', ' ')}{since}",
                why=check.reason,
                next="See all checks of this process.",
                page="health",
                page_name="Health",
                command="",
                runbook=_OF_CHECKS.get(check.name, ""),
            )
