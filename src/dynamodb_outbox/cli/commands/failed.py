"""`failed`: list, group, show and export dead letters; `repairing.py` next to it retries, skips and discards them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click

from dynamodb_outbox.cli.commands.events import show_event, show_events
from dynamodb_outbox.cli.commands.repairing import discard, retry, skip
from dynamodb_outbox.cli.commands.replacing import replace
from dynamodb_outbox.cli.confirming import assent
from dynamodb_outbox.cli.output import Printer, as_json
from dynamodb_outbox.cli.reading import Filter, Group, grouped, pages, read_events
from dynamodb_outbox.cli.records import SCHEMA, document, event_record, time_of
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.selecting import selecting
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import ago
from dynamodb_outbox.stored_events import EventState, StoredEvent

GROUPED: Final = 10_000
"""How many dead letters are grouped if nobody says otherwise."""


@click.group()
def failed() -> None:
    """See, retry, skip, discard and replace dead letters."""


@failed.command("list")
@selecting
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="About how many.")
@click.option("--after", help="Continue after this cursor, which the last list has printed.")
@click.option("--payload", is_flag=True, help="With json and jsonl: write payload and metadata, too.")
@click.pass_obj
def list_failed(settings: Settings, wanted: Filter, limit: int, after: str | None, *, payload: bool) -> None:
    """List dead letters, the latest first."""

    async def read() -> Any:
        async with settings.connect() as outbox:
            return await read_events(outbox, EventState.FAILED, wanted, limit=limit, after=after)

    found = run_async(settings, read)
    show_events(settings, found.events, after=found.after, examined=found.examined, payload=payload)


@failed.command()
@selecting
@click.option(
    "--limit", type=click.IntRange(1), default=GROUPED, show_default=True, help="How many dead letters to read."
)
@click.pass_obj
def groups(settings: Settings, wanted: Filter, limit: int) -> None:
    """Group dead letters by type, class of the error and handler; the largest group first."""

    async def read() -> Any:
        async with settings.connect() as outbox:
            return await read_events(outbox, EventState.FAILED, wanted, limit=limit)

    found = run_async(settings, read)
    made = grouped(found.events)
    printer = Printer.of(settings)
    records = [group_record(group) for group in made]
    whole = document("groups", groups=records, examined=found.examined, is_complete=found.after is None)
    printer.show_many(whole, "groups", "group", lambda out: _show_groups(out, made))
    if found.after is not None:
        printer.note(f"{found.examined} dead letters read; there are more: raise --limit")
    if made:
        printer.note(
            f"\nto deliver a group again:  {settings.command('failed', 'retry', '--group', made[0].id, *assent())}"
        )


def group_record(group: Group) -> dict[str, Any]:
    """Write a group for JSON."""
    return {
        "group": group.id,
        "type": group.type,
        "error_type": group.error_type,
        "error_handler": group.error_handler,
        "count": group.count,
        "blocked_keys": group.blocking,
        "first_failed_at": time_of(group.first),
        "last_failed_at": time_of(group.last),
        "example_id": group.example.id,
        "example_error": group.example.last_error,
    }


def _show_groups(out: Printer, made: list[Group]) -> None:
    now = datetime.now(UTC)
    has_blocked = any(group.blocking for group in made)
    rows = [
        (
            group.id,
            group.count,
            *((group.blocking,) if has_blocked else ()),
            group.type,
            group.error_type,
            group.error_handler,
            ago(now, group.last),
            group.example.last_error,
        )
        for group in made
    ]
    blocked = ("blocked keys",) if has_blocked else ()
    out.table(("group", "events", *blocked, "type", "error", "handler", "latest", "example"), rows)


@failed.command()
@click.argument("id")
@click.option("--payload/--no-payload", default=True, show_default=True, help="Show payload and metadata.")
@click.pass_obj
def show(settings: Settings, id: str, *, payload: bool) -> None:
    """Show one dead letter: all that is stored of it."""
    show_event(settings, id, payload=payload)


@failed.command()
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True))
@selecting
@click.pass_obj
def export(settings: Settings, file: Any, wanted: Filter) -> None:
    """Write all dead letters with their payloads to FILE, a JSON text on each line. `-` is stdout."""
    written = 0

    async def read() -> None:
        nonlocal written
        async with settings.connect() as outbox:
            async for page in pages(outbox, EventState.FAILED, type=wanted.type):
                written += _write(file.write, [event for event in page.events if wanted.takes(event)])

    run_async(settings, read, limited=False)
    Printer.of(settings).note(f"{written} dead letters written to {file.name}")


def _write(write: Callable[[str], object], found: list[StoredEvent]) -> int:
    for event in found:
        record = {"schema": SCHEMA, "kind": "event", **event_record(event, payload=True)}
        write(as_json(record) + "\n")
    return len(found)


failed.add_command(retry)
failed.add_command(skip)
failed.add_command(discard)
failed.add_command(replace)
