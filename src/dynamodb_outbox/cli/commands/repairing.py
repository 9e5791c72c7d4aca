"""`failed retry` and `failed discard`, for ids, or for all dead letters that a selection takes; and `failed skip`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from dynamodb_outbox.cli.commands.dry_run import show_dry_run, why_not
from dynamodb_outbox.cli.commands.selection import MOST_COUNTED, Selection
from dynamodb_outbox.cli.confirming import actor, assent, confirm
from dynamodb_outbox.cli.exits import FINDINGS
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.progress import progress
from dynamodb_outbox.cli.reading import Filter
from dynamodb_outbox.cli.records import document, repaired_record
from dynamodb_outbox.cli.running import Interrupt, Interrupted, install, run_async
from dynamodb_outbox.cli.selecting import Decorator, selecting
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import RATE, decimal, many
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.repairs import Repaired

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

Repair = Callable[["Outbox", Callable[[int], None]], Awaitable[Repaired]]


def _bulk(command: Callable[..., Any]) -> Callable[..., Any]:
    decorators: tuple[Decorator, ...] = (
        click.argument("ids", nargs=-1),
        selecting,
        click.option("--all", "is_all", is_flag=True, help="All dead letters."),
        click.option("--rate", type=RATE, metavar="N/s", help="At most this many events a second."),
        click.option("--dry-run", is_flag=True, help="Say which events it would be, and change nothing."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


@click.command()
@_bulk
@click.pass_obj
def retry(
    settings: Settings,
    *,
    ids: tuple[str, ...],
    wanted: Filter,
    rate: float | None,
    is_all: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Deliver dead letters again, with all their retries. Handlers that had succeeded do not run again."""
    selection = Selection(ids, wanted, is_all).checked()
    if dry_run:
        show_dry_run(settings, selection, "retry")
        return
    if not ids:
        _confirm(settings, selection, "Deliver them again?", yes=yes)

    async def repair(outbox: Outbox, on_progress: Callable[[int], None]) -> Repaired:
        from dynamodb_outbox.repairing import redrive  # noqa: PLC0415 - it imports the event loop

        return await redrive(outbox, selection.selected, only=selection.only, rate=rate, on_progress=on_progress)

    _run(settings, selection, "retry", repair, *_at(rate), *(() if ids else assent()))


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Say which events it would be, and change nothing.")
@click.pass_obj
def skip(settings: Settings, *, ids: tuple[str, ...], dry_run: bool) -> None:
    """Let the ordering keys go on that dead letters block. The events stay dead letters.

    A later `failed retry` puts them to the ends of their lines.
    """
    selection = Selection(ids, Filter(), is_all=False)
    if dry_run:
        show_dry_run(settings, selection, "skip")
        return

    async def repair(outbox: Outbox, on_progress: Callable[[int], None]) -> Repaired:
        from dynamodb_outbox.repairing import skip  # noqa: PLC0415 - it imports the event loop

        return await skip(outbox, ids)

    _run(settings, selection, "skip", repair)


@click.command()
@_bulk
@click.option("--reason", required=True, help="Why nobody needs these events. It is stored with each of them.")
@click.option("--by", default=actor, show_default="USER@HOST", help="Who decides. It is stored with each event.")
@click.pass_obj
def discard(
    settings: Settings,
    *,
    ids: tuple[str, ...],
    wanted: Filter,
    rate: float | None,
    reason: str,
    by: str,
    is_all: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Give dead letters up: they are never delivered. The items stay until their time to live ends."""
    selection = Selection(ids, wanted, is_all).checked()
    if dry_run:
        show_dry_run(settings, selection, "discard")
        return
    _confirm(settings, selection, "Discard them for ever?", yes=yes)

    async def repair(outbox: Outbox, on_progress: Callable[[int], None]) -> Repaired:
        from dynamodb_outbox.repairing import discard  # noqa: PLC0415 - it imports the event loop

        selected, only = selection.selected, selection.only
        return await discard(outbox, selected, reason=reason, by=by, only=only, rate=rate, on_progress=on_progress)

    _run(settings, selection, "discard", repair, "--reason", reason, "--by", by, *_at(rate), *assent())


def _at(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else ("--rate", decimal(rate))


def _confirm(settings: Settings, selection: Selection, question: str, *, yes: bool) -> None:
    """Ask whether the events that are meant should be changed."""
    if selection.ids:
        confirm(f"{many(len(selection.ids), 'event')}. {question}", yes=yes)
        return
    count = len(run_async(settings, lambda: _count(settings, selection)))
    if not count:
        Printer.of(settings).note(f"no dead letter of {settings.table_name!r} matches")
        return
    about = f"{count:,} or more dead letters" if count >= MOST_COUNTED else many(count, "dead letter")
    confirm(f"{about} of {settings.table_name!r}. {question}", yes=yes)


async def _count(settings: Settings, selection: Selection) -> list[str]:
    async with settings.connect() as outbox:
        return await selection.read_ids(outbox)


def _run(settings: Settings, selection: Selection, action: str, repair: Repair, *extra: str) -> None:
    """Make the repair. `extra` are the options that a command to go on needs, too."""
    printer = Printer.of(settings)
    interrupt = Interrupt()

    async def work() -> Repaired:
        install(interrupt)
        async with settings.connect() as outbox:
            with progress(action, is_shown=not settings.quiet) as shown:

                def on_progress(done: int) -> None:
                    shown.update(done)
                    interrupt.check()

                try:
                    return await repair(outbox, on_progress)
                except (Interrupted, StorageError):
                    printer.note(f"stopped: {many(shown.done, 'event')} done")
                    printer.note(f"to go on: {selection.command(settings, action, *extra)}")
                    raise

    repaired = run_async(settings, work, limited=False)
    printer.show(document(action, **repaired_record(repaired)), lambda out: _show(out, action, repaired))
    if repaired.refused:
        click.get_current_context().exit(FINDINGS)


def _show(out: Printer, action: str, repaired: Repaired) -> None:
    # An event that was set aside is not due yet: it goes to the end of its line.
    past = {"retry": "will be delivered again", "skip": "set aside", "discard": "discarded"}[action]
    out.text(f"{many(len(repaired.done), 'event')} {past}")
    for event_id, status in repaired.refused.items():
        out.text(f"{event_id}: not changed, {why_not(action, status)}")
