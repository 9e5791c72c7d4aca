"""`recover`: makes events whose lease ran out due again, as each worker does."""

from __future__ import annotations

from typing import Any

import click

from dynamodb_outbox.cli.exits import FINDINGS
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.reading import Filter, read_events
from dynamodb_outbox.cli.records import document
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import many
from dynamodb_outbox.repairs import MOST_RETRIES
from dynamodb_outbox.stored_events import EventState

DRY_RUN_LIMIT = 1_000


@click.command()
@click.option(
    "--max-retries",
    type=click.IntRange(0),
    help="Make events with this many retries dead letters, as your service does.",
)
@click.option("--dry-run", is_flag=True, help="List the events, and change nothing.")
@click.pass_obj
def recover(settings: Settings, max_retries: int | None, *, dry_run: bool) -> None:
    """Make events whose lease ran out due again.

    Each worker does the same every few seconds. It delivers nothing: a worker has to run. The worker that claims an
    event without a retry left makes it a dead letter, because only workers know the retries of their handlers.
    """
    printer = Printer.of(settings)
    if dry_run:
        found = run_async(settings, lambda: _expired(settings))
        is_complete = len(found) < DRY_RUN_LIMIT
        made = document("dry_run", action="recover", ids=found, refused=[], is_complete=is_complete)
        printer.show(made, lambda out: _list(out, found))
        return
    recovered = run_async(settings, lambda: _recover(settings, max_retries))
    errors = [{"id": error.event_id, "error": str(error)} for error in recovered.errors]
    made = document("recover", reset=list(recovered.reset), failed=list(recovered.failed), errors=errors)

    def people(out: Printer) -> None:
        out.text(f"{many(len(recovered.reset), 'event')} due again, {many(len(recovered.failed), 'new dead letter')}")
        for error in errors:
            out.text(f"{error['id']}: {error['error']}")

    printer.show(made, people)
    if errors:
        click.get_current_context().exit(FINDINGS)


async def _expired(settings: Settings) -> list[str]:
    async with settings.connect() as outbox:
        found = await read_events(outbox, EventState.EXPIRED, Filter(), limit=DRY_RUN_LIMIT)
        return [event.id for event in found.events]


async def _recover(settings: Settings, max_retries: int | None) -> Any:
    async with settings.connect() as outbox:
        return await outbox.recover(max_retries=MOST_RETRIES if max_retries is None else max_retries)


def _list(out: Printer, found: list[str]) -> None:
    for event_id in found:
        out.text(event_id)
    out.note(f"{many(len(found), 'event')}; nothing was changed")
