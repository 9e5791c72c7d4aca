"""Dead letters: killed workers, unreadable items, types without a handler, and errors of handlers."""

from __future__ import annotations

from typing import Final

from dynamodb_outbox.cli.confirming import assent
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.reading import Group, grouped
from dynamodb_outbox.cli.settings import last
from dynamodb_outbox.cli.values import ago, many
from dynamodb_outbox.port import LEASE_EXPIRED
from dynamodb_outbox.stored_events import EventState, StoredEvent

PAGE: Final = "docs/troubleshooting.md#an-event-is-failed-and-my-handler-did-not-run"
NO_HANDLER: Final = ("no handler", "NoHandlerError")
NOT_KNOWN: Final = "not known: the dead letters could not be read"
MANY: Final = 10
"""At most this many events are named in a command."""


def _is_poison(event: StoredEvent) -> bool:
    return LEASE_EXPIRED in event.last_error


def _has_no_handler(event: StoredEvent) -> bool:
    return event.error_type == "NoHandlerError" or (
        not event.error_handler and any(text in event.last_error for text in NO_HANDLER)
    )


def _failed(evidence: Evidence) -> tuple[StoredEvent, ...] | None:
    return evidence.events.get(EventState.FAILED)


def check_poison(evidence: Evidence) -> Finding:
    """Whether events have killed or hung their workers in every attempt."""
    failed = _failed(evidence)
    if failed is None:
        return skip("poison events", NOT_KNOWN)
    found = [event for event in failed if _is_poison(event)]
    if not found:
        return ok("poison events", "no dead letter has outlived its worker in each attempt")
    example = found[0]
    return Finding(
        check="poison events",
        mark=Mark.WARN,
        title=f"{many(len(found), 'dead letter')} failed because the lease ran out in each attempt",
        evidence=(f"{example.type} {example.id}, {ago(evidence.now, example.failed_at)}: {example.last_error}",),
        cause="the event kills its worker, for example by its memory, or its handler blocks the event loop",
        repair=(
            evidence.settings.command("events", "show", *last([example.id])),
            "search for out-of-memory kills at that time, and run the handler with the payload on your machine",
        ),
        docs=PAGE,
    )


def check_unreadable(evidence: Evidence) -> Finding:
    """Whether dead letters cannot be read."""
    failed = _failed(evidence)
    if failed is None:
        return skip("unreadable items", NOT_KNOWN)
    found = [event for event in (*failed, *evidence.of(EventState.DUE)) if event.unreadable]
    if not found:
        return ok("unreadable items", "every event that was read can be read")
    example, settings = found[0], evidence.settings
    ids = [event.id for event in found if event.state is EventState.FAILED][:MANY] or [example.id]
    return Finding(
        check="unreadable items",
        mark=Mark.WARN,
        title=f"{many(len(found), 'stored event')} cannot be read",
        evidence=(f"{example.id}: {example.unreadable}",),
        cause="another program has written these items in another format",
        repair=(
            "if somebody needs the events, fix the items, then retry them; if nobody does, discard them. To see one:",
            settings.command("events", "show", *last([example.id])),
            f"{settings.command('failed', 'export', 'before-discard.jsonl')}   # a discard has no undo",
            settings.command("failed", "discard", "--reason", "not an event", *assent(), *last(ids)),
        ),
        docs="docs/how-to/on-call.md#items-that-cannot-be-read",
    )


def check_unhandled_failed(evidence: Evidence) -> Finding:
    """Whether events failed because nobody had a handler for their type."""
    failed = _failed(evidence)
    if failed is None:
        return skip("failed without a handler", NOT_KNOWN)
    found = [event for event in failed if _has_no_handler(event)]
    if not found:
        return ok("failed without a handler", "no dead letter lacked a handler")
    event_type = found[0].type
    return Finding(
        check="failed without a handler",
        mark=Mark.WARN,
        title=f"{many(len(found), 'dead letter')}, for example of {event_type!r}, had no worker with a handler",
        evidence=(f"{found[0].id}: {found[0].last_error}",),
        cause="no worker had a handler for the type for the whole unhandled_timeout, an hour by default",
        repair=(
            "start the service that has the handler, then:",
            evidence.settings.command("failed", "retry", "--type", event_type, *assent()),
        ),
        docs="docs/how-to/deploys.md#roll-out-a-new-event-type",
    )


def check_dead_letters(evidence: Evidence) -> Finding:
    """Whether there are dead letters, and the largest group of them."""
    failed = _failed(evidence)
    if failed is None:
        return skip("dead letters", NOT_KNOWN)
    of_handlers = [event for event in failed if not (_is_poison(event) or event.unreadable or _has_no_handler(event))]
    if not of_handlers:
        return ok("dead letters", f"{len(failed)} dead letters, none of them after an error of a handler")
    largest = grouped(of_handlers)[0]
    count = evidence.sample.failed if evidence.sample else len(failed)
    is_are = "is" if largest.count == 1 else "are"
    where = f" in {largest.error_handler}" if largest.error_handler else ""
    return Finding(
        check="dead letters",
        mark=Mark.WARN,
        title=f"{many(count, 'dead letter')}; {largest.count} of the latest {len(failed)} {is_are} {largest.type!r} "
        f"after {largest.error_type or 'an error'}{where}",
        evidence=(
            largest.example.last_error,
            f"the latest {ago(evidence.now, largest.last)}, for example {largest.example.id}",
        ),
        cause="the handler has failed in each attempt, or has rejected the events",
        repair=(
            "once its cause is fixed:",
            evidence.settings.command("failed", "retry", "--group", largest.id, *assent()),
            *_corrections(evidence, largest),
            f"{evidence.settings.command('failed', 'groups')}   # all groups",
        ),
        docs="docs/how-to/retries.md#dead-letters",
    )


def _corrections(evidence: Evidence, group: Group) -> list[str]:
    """Return how to correct the payload of an event, if that is what is wrong."""
    if group.error_type != "InvalidPayloadError":
        return []
    command = evidence.settings.command("failed", "replace", "--edit", "--reason", "WHY", *last([group.example.id]))
    return [f"{command}   # to correct its payload"]
