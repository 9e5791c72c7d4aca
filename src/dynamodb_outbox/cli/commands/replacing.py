"""`failed replace`: stores a corrected event in place of a dead letter."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import click

from dynamodb_outbox.cli.confirming import actor, confirm
from dynamodb_outbox.cli.exits import FINDINGS, Refusal
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import document
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.terminal import plain
from dynamodb_outbox.event import Event
from dynamodb_outbox.repairs import DISCARDABLE
from dynamodb_outbox.stored_events import StoredEvent
from dynamodb_outbox.typed_json import from_json, to_json


@click.command()
@click.argument("id")
@click.argument("payload", required=False)
@click.option("--edit", is_flag=True, help="Open the payload in $EDITOR.")
@click.option("--reason", required=True, help="Why. It is stored with the event that is replaced.")
@click.option("--by", default=actor, show_default="USER@HOST", help="Who decides.")
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def replace(
    settings: Settings,
    *,
    id: str,
    payload: str | None,
    edit: bool,
    reason: str,
    by: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Store a new event with another PAYLOAD, and discard the dead letter, both or neither.

    The new event has its own id. All handlers run for it, also if they had succeeded with the old payload. PAYLOAD is
    JSON, or `-` to read it from stdin. It is the whole payload: fields that it leaves out are gone. It is not validated
    before a handler reads it, and must have the form of the version of the old event.
    """
    if (payload is None) is not edit:
        raise Refusal("give either a PAYLOAD or --edit")
    old = run_async(settings, lambda: _read(settings, id))
    # Only the event at the front of a line tells how many events wait behind it.
    goes_to_end = old.ordering_key is not None and old.waiting_behind is None
    place = " The new event goes to the end of the line of its ordering key." if goes_to_end else ""
    before = to_json(old.payload, indent=2, decimals=True)
    after = _edited(before) if payload is None else _parsed(sys.stdin.read() if payload == "-" else payload)
    printer = Printer.of(settings)
    printer.note(_difference(before, after))
    new_id = None
    if not dry_run:
        confirm(f"Replace the event {id!r}? Its handlers run for the new payload.{place}", yes=yes)
        new_id = run_async(settings, lambda: _replace(settings, id, after, reason, by)).id
    made = document("replace", replaced=id, id=new_id, dry_run=dry_run)
    replaced = f"{id} is replaced by {new_id}{' at the end of its line' if goes_to_end else ''}"
    text = "nothing was changed" if dry_run else replaced
    printer.show(made, lambda out: out.text(text))


async def _read(settings: Settings, event_id: str) -> StoredEvent:
    async with settings.connect() as outbox:
        event = await outbox.get(event_id)
    if event is None:
        raise Refusal(f"there is no event {event_id!r} in the table {settings.table_name!r}", FINDINGS)
    if event.unreadable is not None:
        raise Refusal(f"the event {event_id!r} cannot be read: {event.unreadable}", FINDINGS)
    if event.status not in DISCARDABLE:
        raise Refusal(f"the event {event_id!r} is not replaced: it is {event.status}", FINDINGS)
    return event


async def _replace(settings: Settings, event_id: str, payload: Any, reason: str, by: str) -> Event:
    from dynamodb_outbox import OutboxEventBus  # noqa: PLC0415 - it imports the AWS SDK

    async with settings.connect() as outbox:
        return await OutboxEventBus(outbox).replace_event(event_id, payload, reason=reason, by=by)


def _edited(before: str) -> Any:
    text = click.edit(before, extension=".json")
    if text is None or text.strip() == before.strip():
        raise Refusal("the payload was not changed", FINDINGS)
    return _parsed(text)


def _parsed(text: str) -> Any:
    try:
        return from_json(text, decimals=True)
    except ValueError as error:
        raise Refusal(f"the payload is not JSON: {error}") from None


def _difference(before: str, after: Any) -> str:
    new = to_json(after, indent=2, decimals=True)
    lines = difflib.unified_diff(before.splitlines(), new.splitlines(), "before", "after", lineterm="")
    return "\n".join(plain(line) for line in lines) or "the payload stays as it is"
