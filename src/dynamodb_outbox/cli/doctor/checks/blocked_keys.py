"""Ordering keys whose events wait, because a dead letter of the key is at the front of the line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.settings import last
from dynamodb_outbox.cli.values import ago, many
from dynamodb_outbox.dynamodb.ordering.queue import PREFIX
from dynamodb_outbox.stored_events import EventState, StoredEvent

SHOWN: Final = 3
"""At most this many keys are described."""
NO_TYPE: Final = "the attribute 'type' is missing"
MANY: Final = 10
"""At most this many events are named in a command."""


def check_blocked_keys(evidence: Evidence) -> Finding:
    """Whether dead letters block their ordering keys: which, since when, and how many events wait."""
    failed = evidence.events.get(EventState.FAILED)
    if failed is None:
        return skip("blocked keys", "not known: the dead letters could not be read")
    # The keys that have waited the longest first.
    blocking = [event for event in reversed(failed) if event.blocks_key]
    count = evidence.sample.blocked_keys if evidence.sample else len(blocking)
    if not blocking:
        return ok("blocked keys", f"none of the latest {len(failed)} dead letters blocks an ordering key")
    ids = [event.id for event in blocking[:MANY]]
    cause, fix = _causes(blocking)
    settings = evidence.settings
    return Finding(
        check="blocked keys",
        mark=Mark.WARN,
        title=f"{many(count, 'ordering key')} blocked: the later events of a key wait for a dead letter",
        evidence=tuple(_about(evidence, event) for event in blocking[:SHOWN]),
        cause=cause,
        repair=(
            settings.command("events", "show", *last(ids[:1])),
            f"{fix}, then retry it in its place:",
            settings.command("failed", "retry", *last(ids)),
            "or let the keys go on without it:",
            settings.command("failed", "skip", *last(ids)),
        ),
        docs="docs/how-to/ordering.md#when-a-handler-fails",
    )


def _causes(blocking: Sequence[StoredEvent]) -> tuple[str, str]:
    """Return the likely cause, and what to do about it. A queue has no type, and a release without keys misses it."""
    if any(PREFIX in event.last_error and NO_TYPE in event.last_error for event in blocking):
        return (
            "a worker of a release before ordering keys has taken the queue of the key for an event",
            "stop each worker of the older release",
        )
    return (
        "the event at the front of the key has failed in each attempt, or its handler has rejected it",
        "fix the cause",
    )


def _about(evidence: Evidence, event: StoredEvent) -> str:
    waiting = "none waits behind it" if event.waiting_behind is None else f"{event.waiting_behind} wait behind it"
    return (
        f"{event.ordering_key!r} is blocked by {event.type} {event.id}, {ago(evidence.now, event.failed_at)}; "
        f"{waiting}; {event.last_error}"
    )
