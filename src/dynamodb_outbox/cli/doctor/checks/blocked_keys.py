"""Ordering keys whose events wait, because a dead letter of the key is at the front of the line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.settings import last
from dynamodb_outbox.cli.values import ago, many
from dynamodb_outbox.cli.verdict import unknown_blocked_keys
from dynamodb_outbox.dynamodb.ordering.queue import PREFIX
from dynamodb_outbox.stored_events import EventState, StoredEvent

SHOWN: Final = 3
"""At most this many keys are described."""
NO_TYPE: Final = "the attribute 'type' is missing"
MANY: Final = 10
"""At most this many events are named in a command."""


def check_blocked_keys(evidence: Evidence) -> Finding:
    """Whether dead letters block their ordering keys: which, since when, and how many events wait."""
    if evidence.blocking is None:
        return skip("blocked keys", "not known: the dead letters could not be read")
    # The keys that have waited the longest first.
    blocking = evidence.blocking[::-1]
    sample, settings = evidence.sample, evidence.settings
    if not blocking and sample is not None and sample.blocked_keys.is_unknown:
        return skip("blocked keys", unknown_blocked_keys(sample))
    if not blocking:
        failed = len(evidence.of(EventState.FAILED)) if sample is None else sample.failed.at_least
        return ok("blocked keys", f"none of the latest {failed:,} dead letters blocks an ordering key")
    count = len(blocking) if sample is None else sample.blocked_keys
    ids = [event.id for event in blocking[:MANY]]
    cause, fix = _causes(blocking)
    return Finding(
        check="blocked keys",
        mark=Mark.WARN,
        title=f"{many(count, 'ordering key')} blocked: the later events of a key wait for a dead letter",
        evidence=(*(_about(evidence, event) for event in blocking[:SHOWN]), *_rest(evidence, blocking)),
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


def _rest(evidence: Evidence, blocking: Sequence[StoredEvent]) -> list[str]:
    """Say how to see the keys that are not described."""
    more = len(blocking) - SHOWN
    command = evidence.settings.command("failed", "list", "--blocks-key")
    return [f"and {many(more, 'more key')}: {command}"] if more > 0 else []


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
