"""`events`: list the events of a state, show one event, and follow what changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from dynamodb_outbox.cli.confirming import assent
from dynamodb_outbox.cli.exits import FINDINGS, Refusal
from dynamodb_outbox.cli.output import Printer, as_json
from dynamodb_outbox.cli.reading import Filter, read_events
from dynamodb_outbox.cli.records import document, event_record
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings, last
from dynamodb_outbox.cli.values import ago
from dynamodb_outbox.event_states import LISTED
from dynamodb_outbox.stored_events import EventState, StoredEvent
from dynamodb_outbox.typed_json import to_json

STATES: Final = [str(state) for state in LISTED]


@click.group()
def events() -> None:
    """List, show and follow events."""


@events.command("list")
@click.option(
    "--state",
    "--status",
    type=click.Choice(STATES),
    default=str(EventState.DUE),
    show_default=True,
    help="The state of the events.",
)
@click.option("--type", help="Only events of this type.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most.")
@click.option("--after", help="Continue after this cursor, which the last list has printed.")
@click.option("--payload", is_flag=True, help="With json and jsonl: write payload and metadata, too.")
@click.pass_obj
def list_events(
    settings: Settings, state: str, type: str | None, limit: int, after: str | None, *, payload: bool
) -> None:
    """List the events of a state, the longest due first, dead letters the latest first."""

    async def read() -> Any:
        async with settings.connect() as outbox:
            return await read_events(outbox, state, Filter(type=type), limit=limit, after=after)

    found = run_async(settings, read)
    show_events(settings, found.events, after=found.after, examined=found.examined, payload=payload)


def show_events(
    settings: Settings, found: tuple[StoredEvent, ...], *, after: str | None, examined: int, payload: bool
) -> None:
    """Write a list of events, and how to see the next ones."""
    printer = Printer.of(settings)
    records = [event_record(event, payload=payload) for event in found]
    made = document("events", events=records, after=after, examined=examined)
    printer.show_many(made, "events", "event", lambda out: _show_list(out, found))
    if after is not None:
        printer.note(f"{len(found)} shown, {examined} read; there are more: add --after {after}")


def _show_list(out: Printer, found: tuple[StoredEvent, ...]) -> None:
    now = datetime.now(UTC)
    # A column that is empty for most users, and so is left out for them.
    has_keys = any(event.ordering_key is not None for event in found)
    rows = [
        (
            event.id,
            event.type,
            *((event.ordering_key,) if has_keys else ()),
            f"{event.state}, blocks its key" if event.blocks_key else event.state,
            event.retry_count,
            ago(now, moment_of(event)),
            event.claimed_by,
            last_error(event),
        )
        for event in found
    ]
    key = ("ordering key",) if has_keys else ()
    out.table(("id", "type", *key, "state", "retries", "since", "claimed by", "last error"), rows)


def moment_of(event: StoredEvent) -> datetime | None:
    """Return the time that the state of an event is about; of a running event, when it was started."""
    if event.state is EventState.PROCESSING and event.started_at is not None:
        return event.started_at
    return event.failed_at or event.lease_expires_at or event.due_at or event.completed_at or event.discarded_at


def last_error(event: StoredEvent) -> str:
    """Write the last error in one line, or why the event cannot be read."""
    return f"unreadable: {event.unreadable}" if event.unreadable else event.last_error


@events.command()
@click.argument("id", required=False)
@click.option("--ordering-key", metavar="KEY", help="In place of ID: what the later events of this key wait for.")
@click.option("--payload/--no-payload", default=True, show_default=True, help="Show payload and metadata.")
@click.pass_obj
def show(settings: Settings, id: str | None, ordering_key: str | None, *, payload: bool) -> None:
    """Show one event: all that is stored of it."""
    if id is not None and ordering_key is None:
        show_event(settings, id, payload=payload)
    elif id is None and ordering_key is not None:
        _show_front(settings, ordering_key, payload=payload)
    else:
        raise click.UsageError("give either an ID or --ordering-key KEY")


def show_event(settings: Settings, id: str, *, payload: bool) -> None:
    """Read one event with a consistent read, and write it."""

    async def read() -> StoredEvent | None:
        async with settings.connect() as outbox:
            return await outbox.get(id)

    event = run_async(settings, read)
    if event is None:
        raise Refusal(f"there is no event {id!r} in the table {settings.table_name!r}", FINDINGS)
    _show(settings, event, payload=payload)


def _show_front(settings: Settings, ordering_key: str, *, payload: bool) -> None:
    async def read() -> StoredEvent | None:
        async with settings.connect() as outbox:
            return await outbox.get_front(ordering_key)

    event = run_async(settings, read)
    if event is None:
        table = settings.table_name
        raise Refusal(f"no event of the ordering key {ordering_key!r} waits in the table {table!r}", FINDINGS)
    _show(settings, event, payload=payload)


def _show(settings: Settings, event: StoredEvent, *, payload: bool) -> None:
    record = event_record(event, payload=payload)
    printer = Printer.of(settings)
    printer.show(document("event", **record), lambda out: _show_event(out, settings, event, payload=payload))


def _show_event(out: Printer, settings: Settings, event: StoredEvent, *, payload: bool) -> None:
    now = datetime.now(UTC)
    times = ("due", "started", "lease_expires", "failed", "completed", "discarded", "expires")
    occurred = None if event.unreadable else event.occurred_at
    moments = [("occurred", occurred), *((name, getattr(event, f"{name}_at")) for name in times)]
    out.pairs(
        [
            ("id", event.id),
            ("type", event.type),
            ("state", f"{event.state} ({event.status}){', blocks its key' if event.blocks_key else ''}"),
            ("ordering key", event.ordering_key),
            ("waits for", waits_for(event)),
            ("waiting behind it", event.waiting_behind),
            ("retries", event.retry_count),
            *((name.replace("_", " "), moment and _when(now, moment)) for name, moment in moments),
            ("claimed by", event.claimed_by),
            ("window", event.window),
            ("handlers done", ", ".join(sorted(event.handled_by))),
            ("no handler since", event.unhandled_since and _when(now, event.unhandled_since)),
            ("error type", event.error_type),
            ("error handler", event.error_handler),
            ("last error", event.last_error),
            ("discarded by", event.discarded_by),
            ("discard reason", event.discard_reason),
            ("replaced by", event.replaced_by),
            ("unreadable", event.unreadable),
        ]
    )
    if payload:
        for name, value in (("metadata", dict(event.metadata) or None), ("payload", event.payload)):
            if value is not None:
                out.text(f"{name}\n{to_json(value, indent=2, decimals=True)}")
        if event.item is not None:
            out.text(f"item, as it is stored\n{as_json(dict(event.item), indent=2)}")
    for advice in next_steps(settings, event):
        out.note(advice)


def _when(now: datetime, moment: datetime) -> str:
    return f"{moment.isoformat()} ({ago(now, moment)})"


def waits_for(event: StoredEvent) -> str | None:
    """Say what an event waits for that has an ordering key, and is not at the front of its line."""
    if event.state is not EventState.WAITING:
        return None
    return event.waits_for or "its emit, which has not put it into its line"


def next_steps(settings: Settings, event: StoredEvent) -> list[str]:
    """Return what an operator can do about the event in its state."""
    match event.state:
        case EventState.FAILED:
            discard = settings.command("failed", "discard", "--reason", "WHY", *assent(), *last([event.id]))
            place = " in its place" if event.blocks_key else " at the end of its line" if event.ordering_key else ""
            first = "once the item is fixed" if event.unreadable else f"to deliver it again{place}"
            steps = {first: settings.command("failed", "retry", *last([event.id]))}
            if event.blocks_key:
                steps["to let its key go on without it"] = settings.command("failed", "skip", *last([event.id]))
            if not event.unreadable:
                replace = settings.command("failed", "replace", "--edit", "--reason", "WHY", *last([event.id]))
                steps["to correct its payload"] = replace
            steps["to give it up"] = discard
            width = max(24, *(len(what) + 3 for what in steps))
            return ["", *(f"{f'{what}:'.ljust(width)}{command}" for what, command in steps.items())]
        case EventState.WAITING:
            return _while_waiting(settings, event)
        case EventState.EXPIRED:
            return [f"\nto make it due again now:  {settings.command('recover')}"]
        case EventState.DUE | EventState.SCHEDULED if event.unhandled_since is not None:
            others = "; the later events of its ordering key wait for it" if event.ordering_key else ""
            return [f"\nno worker had a handler for {event.type!r} so far: start the service that has one{others}"]
        case EventState.HELD:
            return [f"\nto deliver events of its type again:  {settings.command('resume', '--type', event.type)}"]
        case _:
            return []


def _while_waiting(settings: Settings, event: StoredEvent) -> list[str]:
    if event.waits_for is not None:
        return [f"\nto see what it waits for:  {settings.command('events', 'show', *last([event.waits_for]))}"]
    return [
        "\nif its emit is over, it is in no line, and no worker finds it: emit it again, with its id and its key",
        f"to give it up:  {settings.command('failed', 'discard', '--reason', 'WHY', *assent(), *last([event.id]))}",
    ]
