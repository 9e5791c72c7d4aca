"""`hold`, `resume` and `holds`: stop and start the delivery of all events, or of one type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from dynamodb_outbox.cli.confirming import actor, confirm
from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.reading import read_holds
from dynamodb_outbox.cli.records import document, hold_record, time_of
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION, ago, span
from dynamodb_outbox.repairs import Hold


def _one_of(type: str | None, *, is_all: bool) -> None:
    if (type is None) is not is_all:
        raise Refusal("say what: either --type TYPE or --all")


@click.command()
@click.option("--type", help="Only events of this type.")
@click.option("--all", "is_all", is_flag=True, help="All events of the table.")
@click.option("--reason", required=True, help="Why. Everyone who asks for the status reads it.")
@click.option(
    "--for", "seconds", type=DURATION, metavar="DURATION", help="Resume by itself after this long, such as 30m."
)
@click.option("--by", default=actor, show_default="USER@HOST", help="Who decides.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def hold(
    settings: Settings,
    type: str | None,
    reason: str,
    seconds: float | None,
    by: str,
    *,
    is_all: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Tell all workers of the table to start no events. Handlers that run go on; emits are stored and wait."""
    _one_of(type, is_all=is_all)
    what = "all events" if type is None else f"events of the type {type!r}"
    until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    undo = settings.command("resume", *(("--all",) if type is None else ("--type", type)))
    printer = Printer.of(settings)
    made = document("hold", type=type, reason=reason, by=by, until=time_of(until), dry_run=dry_run, undo=undo)
    if not dry_run:
        confirm(f"Hold {what} of {settings.table_name!r}?", yes=yes)

        async def work() -> None:
            from dynamodb_outbox import holding  # noqa: PLC0415 - it imports the event loop

            async with settings.connect() as outbox:
                await holding.hold(outbox, type, reason=reason, by=by, until=until)

        run_async(settings, work)
    would = "would be" if dry_run else "are"
    end = "until you resume them" if seconds is None else f"for {span(seconds)}"
    printer.show(made, lambda out: out.text(f"{what} {would} on hold {end}"))
    printer.note(f"to undo it: {undo}")


@click.command()
@click.option("--type", help="The type that is on hold.")
@click.option("--all", "is_all", is_flag=True, help="End the hold of all events. Holds of single types stay.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--yes", "-y", is_flag=True, expose_value=False, help="For scripts. A resume does not ask.")
@click.pass_obj
def resume(settings: Settings, type: str | None, *, is_all: bool, dry_run: bool) -> None:
    """Let workers deliver events again that are on hold."""
    _one_of(type, is_all=is_all)

    async def work() -> int | None:
        async with settings.connect() as outbox:
            is_held = any(each.type == type for each in await read_holds(outbox))
            # Also if no hold is seen: the read may be a moment old, and an earlier resume may have been interrupted.
            moved = 0 if dry_run else await outbox.resume(type)
            return moved if is_held or moved else None

    moved = run_async(settings, work, limited=False)
    what = "all events" if type is None else f"the type {type!r}"
    made = document("resume", type=type, was_held=moved is not None, moved=moved or 0, dry_run=dry_run)
    if moved is None:
        text = f"{what}: no hold is in force"
    elif dry_run:
        text = f"{what}: would be resumed"
    else:
        text = f"{what}: resumed; {moved} held events are due again"
    Printer.of(settings).show(made, lambda out: out.text(text))


@click.command()
@click.pass_obj
def holds(settings: Settings) -> None:
    """List the holds in force: of what, by whom, why, since when and until when."""

    async def read() -> list[Hold]:
        async with settings.connect() as outbox:
            return list(await read_holds(outbox))

    found = run_async(settings, read)
    now = datetime.now(UTC)

    def people(out: Printer) -> None:
        rows = [
            (each.type or "(all)", each.reason, each.by, ago(now, each.since), ago(now, each.until)) for each in found
        ]
        out.table(("type", "reason", "by", "since", "until"), rows)

    made = document("holds", holds=[hold_record(each) for each in found])
    Printer.of(settings).show_many(made, "holds", "hold", people)
