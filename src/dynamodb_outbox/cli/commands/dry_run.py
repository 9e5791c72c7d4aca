"""`--dry-run` of `failed retry`, `failed skip` and `failed discard`: which events they would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import click

from dynamodb_outbox.cli.commands.selection import MOST_COUNTED, Selection
from dynamodb_outbox.cli.exits import FINDINGS
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import document, repaired_record
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import many
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.repairs import DISCARDABLE, Repaired
from dynamodb_outbox.stored_events import StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

AT_ONCE: Final = 20
"""How many events are read at the same time."""
Action = Literal["retry", "skip", "discard"]


def show_dry_run(settings: Settings, selection: Selection, action: Action) -> None:
    """Say which events a repair would change, and why it would not change others that are named."""
    planned = run_async(settings, lambda: _plan(settings, selection, action), limited=False)
    found = planned.done
    is_complete = len(found) < MOST_COUNTED
    refused = repaired_record(planned)["refused"]
    made = document("dry_run", action=action, ids=list(found), refused=refused, is_complete=is_complete)

    def people(out: Printer) -> None:
        for event_id in found:
            out.text(event_id)
        for event_id, status in planned.refused.items():
            out.warn(f"{event_id}: would not be changed, {why_not(action, status)}")
        out.note(
            f"{many(len(found), 'event') if is_complete else f'{len(found):,} or more events'}; nothing was changed"
        )

    Printer.of(settings).show(made, people)
    if planned.refused:
        click.get_current_context().exit(FINDINGS)


def why_not(action: str, status: EventStatus | None) -> str:
    """Say why a repair leaves an event alone, by the status of the event."""
    if status is None:
        return "no event has this id; events show --ordering-key KEY looks up an ordering key"
    if action == "skip":
        return f"it is {status}: only a dead letter that blocks its ordering key is skipped; see events show ID"
    return f"it is {status}"


async def _plan(settings: Settings, selection: Selection, action: Action) -> Repaired:
    async with settings.connect() as outbox:
        if not selection.ids:
            return Repaired(done=tuple(await selection.read_ids(outbox)))
        return await _plan_ids(outbox, selection.ids, action)


async def _plan_ids(outbox: Outbox, ids: tuple[str, ...], action: Action) -> Repaired:
    import asyncio  # noqa: PLC0415 - the help needs no event loop

    done: list[str] = []
    refused: dict[str, EventStatus | None] = {}
    unique = list(dict.fromkeys(ids))
    for first in range(0, len(unique), AT_ONCE):
        some = unique[first : first + AT_ONCE]
        for event_id, stored in zip(some, await asyncio.gather(*map(outbox.get, some)), strict=True):
            if stored is not None and _would_change(stored, action):
                done.append(event_id)
            else:
                refused[event_id] = None if stored is None else stored.status
    return Repaired(done=tuple(done), refused=refused)


def _would_change(stored: StoredEvent, action: Action) -> bool:
    match action:
        case "retry":
            return stored.status is EventStatus.FAILED
        case "skip":
            return stored.blocks_key
        case "discard":
            return stored.status in DISCARDABLE
