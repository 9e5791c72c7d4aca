"""Why events wait: holds, no handler, no worker, workers that hang or are full, handlers that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from dynamodb_outbox.cli.confirming import assent
from dynamodb_outbox.cli.doctor.evidence import Evidence
from dynamodb_outbox.cli.doctor.finding import Finding, Mark, ok, skip
from dynamodb_outbox.cli.settings import last
from dynamodb_outbox.cli.values import many, span
from dynamodb_outbox.cli.verdict import LATE_SECONDS, STUCK_SECONDS
from dynamodb_outbox.stored_events import EventState, Sample, StoredEvent

NO_SAMPLE: Final = "not known: the index could not be read"
PENDING_PAGE: Final = "docs/troubleshooting.md#an-event-stays-pending"
RUNS_OR_HANGS: Final = (
    "start the service. If its process runs, a PollingError in its log says what to repair; without one, the process "
    "hangs: restart it"
)
MANY_RETRIES: Final = 3
"""So many events that wait for a retry of one error are a pattern."""


def check_holds(evidence: Evidence) -> Finding:
    """Whether an operator has stopped the delivery."""
    if evidence.holds is None:
        return skip("holds", "not known: the holds could not be read")
    if not evidence.holds:
        return ok("holds", "nothing is on hold")
    hold = next((each for each in evidence.holds if each.type is None), evidence.holds[0])
    what = "all events have" if hold.type is None else f"events of the type {hold.type!r} have"
    undo = ("--all",) if hold.type is None else ("--type", hold.type)
    until = f"until {hold.until.isoformat()}" if hold.until else "without an end"
    sample = evidence.sample
    held = 0 if sample is None else sample.held.at_least
    # While all events are on hold, workers do not even take them: they stay due.
    waiting = f", and {many(sample.due, 'event')} due" if sample is not None and hold.type is None else ""
    waits = held > 0 or (evidence.sample is not None and evidence.sample.oldest_due_age > LATE_SECONDS)
    return Finding(
        check="holds",
        mark=Mark.FAIL if waits else Mark.WARN,
        title=f"{what} been on hold for {span(evidence.age(hold.since))}",
        evidence=(f"by {hold.by}, {until}: {hold.reason}", f"{many(held, 'event')} HELD{waiting}"),
        cause="somebody has put them on hold, and workers do not start them; resume them once the reason is over",
        repair=(evidence.settings.command("resume", *undo),),
        docs="docs/how-to/command-line.md#hold-and-resume",
    )


def check_lost(evidence: Evidence) -> Finding:
    """Whether the scan has found events that no worker can find."""
    found = evidence.scanned
    if found is None:
        return skip("lost events", "not looked for: add --deep")
    part = f"{found.examined:,} items{'' if found.is_complete else ', a part of the table,'} were scanned"
    if found.without_window:
        return Finding(
            check="lost events",
            mark=Mark.FAIL,
            title=f"{len(found.without_window)} events are in a window whose item is gone",
            evidence=(part, f"for example {found.without_window[0]}"),
            cause="somebody has deleted a window item. No worker finds its events again",
            repair=(evidence.settings.command("events", "show", *last([found.without_window[0]])),),
            docs="docs/troubleshooting.md#a-window-item-was-deleted",
        )
    if found.not_in_index:
        return Finding(
            check="lost events",
            mark=Mark.FAIL,
            title=f"{len(found.not_in_index)} PENDING events are not in the index",
            evidence=(part, f"for example {found.not_in_index[0]}"),
            cause="another program has stored them without gsiSortKey, or with another number of shards",
            repair=(
                evidence.settings.command("events", "show", *last([found.not_in_index[0]])),
                f"{evidence.settings.command('emit', 'TYPE', 'PAYLOAD')}   # to deliver it, as a new event",
            ),
            docs="docs/reference/item-format.md#write-an-event-from-another-program",
        )
    if found.not_in_line:
        return _not_in_line(evidence, found.not_in_line, part)
    return ok("lost events", f"none; {part}")


def _not_in_line(evidence: Evidence, ids: Sequence[str], part: str) -> Finding:
    return Finding(
        check="lost events",
        mark=Mark.WARN,
        title=f"{many(len(ids), 'event')} with an ordering key in no line",
        evidence=(part, f"for example {ids[0]}"),
        cause="its emit has not returned, or somebody has deleted the queue of its key. No worker finds it",
        repair=(
            evidence.settings.command("events", "show", *last([ids[0]])),
            "then emit it again with its id and its key, or discard it",
        ),
        docs="docs/troubleshooting.md#an-event-stays-queued",
    )


def check_unhandled(evidence: Evidence) -> Finding:
    """Whether due events have a type that no worker has a handler for."""
    waiting = [*evidence.of(EventState.DUE), *evidence.of(EventState.SCHEDULED)]
    unhandled = [event for event in waiting if event.unhandled_since is not None]
    if not unhandled:
        return ok("handlers", "no event waits for a worker that has a handler for its type")
    oldest = max(unhandled, key=lambda event: evidence.age(event.unhandled_since))
    types = _most_common(unhandled)
    return Finding(
        check="handlers",
        mark=Mark.FAIL,
        title=f"no worker has a handler for {types}",
        evidence=(
            f"{len(unhandled)} of {len(waiting)} waiting events; since {span(evidence.age(oldest.unhandled_since))}",
            f"for example {oldest.id}{_holds_up(oldest)}",
        ),
        cause="the release with the handler is not deployed, its worker does not run, or the type was misspelled",
        repair=(
            "start the service that has the handler, or deploy it",
            evidence.settings.command("events", "show", *last([oldest.id])),
        ),
        docs="docs/how-to/deploys.md#roll-out-a-new-event-type",
    )


def _holds_up(event: StoredEvent) -> str:
    """Say how many events of its ordering key wait for an event."""
    if event.ordering_key is None or event.waiting_behind is None or not event.waiting_behind.at_least:
        return ""
    return f", for which {many(event.waiting_behind, 'event')} of its ordering key {event.ordering_key!r} wait"


def check_workers(evidence: Evidence) -> Finding:
    """Whether a worker runs: due events are taken, and expired leases are recovered."""
    sample = evidence.sample
    if sample is None:
        return skip("workers", NO_SAMPLE)
    signs = evidence.signs_of_life
    due, expired = sample.oldest_due_age, sample.oldest_expired_age
    windows = max((evidence.age(window.lease_expires_at) for window in evidence.windows or ()), default=0.0)
    due = 0.0 if evidence.is_held else due
    if max(due, expired, windows) <= LATE_SECONDS:
        return ok("workers", "; ".join(signs) or "nothing waits for a worker")
    if signs and max(expired, windows) <= LATE_SECONDS:
        return ok("workers", "; ".join(signs))
    facts = [
        f"{many(sample.due, 'event')} due, the oldest for {span(due)}" if due else "",
        f"a lease ran out {span(expired)} ago, and nobody has recovered the event" if expired else "",
        *_expired(evidence, sample),
        f"a window ran out {span(windows)} ago, and nobody has recovered it" if windows else "",
        _last_worker(evidence),
    ]
    if signs:
        title, cause = "workers run, but they do not recover events", "the recovery of the workers fails"
    else:
        title = "no worker runs" if due > STUCK_SECONDS else "no worker takes the events"
        title = "the workers have died, or hang" if expired or windows else title
        cause = "no process has started the bus on this table; or its process runs and hangs, for example in a handler "
        cause += "that blocks the event loop; or its polls fail: a permission, the network"
    return Finding(
        check="workers",
        mark=Mark.FAIL,
        title=title,
        evidence=tuple(fact for fact in facts if fact),
        cause=cause,
        repair=(
            RUNS_OR_HANGS,
            evidence.settings.command("status", "--watch", "5"),
        ),
        docs=PENDING_PAGE,
    )


def _expired(evidence: Evidence, sample: Sample) -> list[str]:
    """Say how many events wait for recovery, and which processes had claimed them."""
    if not sample.expired.at_least:
        return []
    names = sorted({event.claimed_by for event in evidence.of(EventState.EXPIRED) if event.claimed_by})
    return [f"{many(sample.expired, 'event')} of dead workers{': ' if names else ''}{', '.join(names[:3])}"]


def _last_worker(evidence: Evidence) -> str:
    if evidence.workers is None:
        return ""
    if not evidence.workers:
        return "no worker has announced itself, or all have stopped"
    latest = evidence.workers[0]
    return f"the last announcement of a worker is {span(evidence.age(latest.announced_at))} old"


def check_hanging(evidence: Evidence) -> Finding:
    """Whether handlers run for so long that events wait for their slots."""
    # A handler without a time limit of its own is cancelled at the end of the lease: it never runs for a minute.
    limit = min(evidence.assumed.lease / 3, LATE_SECONDS)
    running = [event for event in evidence.running if evidence.age(event.started_at) > limit]
    is_late = evidence.sample is not None and evidence.sample.oldest_due_age > LATE_SECONDS
    if not running or not is_late or len(running) * 2 < len(evidence.running):
        return ok("slow handlers", f"{len(running)} of {len(evidence.running)} events have run for over {span(limit)}")
    oldest = max(running, key=lambda event: evidence.age(event.started_at))
    types = _most_common(running)
    return Finding(
        check="slow handlers",
        mark=Mark.FAIL,
        title=f"handlers of {types} have run for up to {span(evidence.age(oldest.started_at))}, and other events wait",
        evidence=(
            f"{len(running)} of {len(evidence.running)} events that workers hold",
            f"the oldest is held by {oldest.claimed_by or 'an unknown process'}: {oldest.id}",
            *_trend(evidence),
        ),
        cause="the handlers wait for something that does not answer, and occupy the slots of the workers",
        repair=(
            _hold(evidence, oldest.type, "its handler hangs"),
            f"{evidence.settings.command('resume', '--type', oldest.type)}   # once what they wait for answers again",
            evidence.settings.command("events", "list", "--state", "processing"),
        ),
        docs="docs/how-to/long-handlers.md",
    )


def _hold(evidence: Evidence, event_type: str, reason: str) -> str:
    words = ("hold", "--type", event_type, "--reason", reason, "--for", "30m", *assent())
    return evidence.settings.command(*words)


def check_busy(evidence: Evidence) -> Finding:
    """Whether workers run but cannot keep up."""
    sample = evidence.sample
    if sample is None:
        return skip("load", NO_SAMPLE)
    is_late = sample.oldest_due_age > LATE_SECONDS and not evidence.is_held
    if not is_late or not evidence.signs_of_life:
        return ok("load", f"the oldest due event has waited for {span(sample.oldest_due_age)}")
    later = evidence.later
    if later is not None and later.due.is_exact and later.due.at_least * 2 <= sample.due.at_least:
        return ok("load", f"{sample.due} events were due, and {later.due} are left: the workers catch up")
    return Finding(
        check="load",
        mark=Mark.FAIL if sample.oldest_due_age > STUCK_SECONDS else Mark.WARN,
        title=f"{sample.due} events are due, the oldest for {span(sample.oldest_due_age)}, although workers run",
        evidence=(
            *evidence.signs_of_life,
            *_trend(evidence),
            *_types("the oldest due events are", evidence.of(EventState.DUE)),
            *_types("workers are busy with", evidence.running),
        ),
        cause="more events come than the workers handle, or a handler has become slow",
        repair=(
            "start more workers, or raise the option concurrency",
            evidence.settings.command("status", "--watch", "5"),
        ),
        docs="docs/troubleshooting.md#an-event-is-handled-late",
    )


def _trend(evidence: Evidence) -> list[str]:
    """Say whether a second sample has more or fewer due events."""
    first, later = evidence.sample, evidence.later
    if first is None or later is None:
        return []
    seconds = (later.at - first.at).total_seconds()
    return [f"due now {first.due}, {seconds:.0f} s later {later.due}"]


def _types(what: str, events: tuple[StoredEvent, ...]) -> list[str]:
    return [f"{what} {_most_common(events)}"] if events else []


def _most_common(events: Sequence[StoredEvent]) -> str:
    return ", ".join(repr(event_type) for event_type, _ in Counter(event.type for event in events).most_common(3))


def check_retries(evidence: Evidence) -> Finding:
    """Whether many events wait for a retry of the same error: something that handlers need is down."""
    waiting = [event for event in evidence.of(EventState.SCHEDULED) if event.retry_count and event.last_error]
    groups = Counter((event.type, event.error_handler, event.error_type) for event in waiting)
    if not groups or groups.most_common(1)[0][1] < MANY_RETRIES:
        return ok("retries", f"{len(waiting)} events wait for a retry")
    (event_type, handler, error), count = groups.most_common(1)[0]
    example = next(event for event in waiting if event.type == event_type and event.error_type == error)
    read = len(evidence.of(EventState.SCHEDULED))
    is_all = evidence.sample is not None and evidence.sample.scheduled.at_least <= read
    number = count if is_all else f"{count} or more"
    return Finding(
        check="retries",
        mark=Mark.WARN,
        title=f"{number} events of {event_type!r} wait for a retry after {error or 'the same error'}",
        evidence=(example.last_error, f"for example {example.id}, in attempt {example.retry_count}"),
        cause=f"{f'the handler {handler}' if handler else 'a handler'} fails: the last release has a defect, or a "
        "service that the handler calls is down",
        repair=(
            "undo the release if it began with one; else hold the type until that service answers, and resume:",
            _hold(evidence, event_type, "its handler fails"),
            evidence.settings.command("resume", "--type", event_type),
            evidence.settings.command("events", "list", "--state", "scheduled", "--type", event_type),
        ),
        docs="docs/how-to/retries.md",
    )
