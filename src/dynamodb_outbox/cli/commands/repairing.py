"""`failed retry` and `failed discard`, for ids, or for all dead letters that a selection takes; and `failed skip`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from dynamodb_outbox.cli.confirming import actor, confirm
from dynamodb_outbox.cli.exits import FINDINGS, Refusal
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.progress import progress
from dynamodb_outbox.cli.reading import Filter, pages
from dynamodb_outbox.cli.records import document, repaired_record, time_of
from dynamodb_outbox.cli.running import Interrupt, Interrupted, install, run_async
from dynamodb_outbox.cli.selecting import Decorator, selecting
from dynamodb_outbox.cli.settings import Settings, last
from dynamodb_outbox.cli.values import RATE, decimal, many
from dynamodb_outbox.errors import StorageError
from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.repairs import FailedSelector, Repaired
from dynamodb_outbox.stored_events import EventState, StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

DRY_RUN_LIMIT: Final = 10_000
"""How many dead letters are counted before a repair."""
Repair = Callable[["Outbox", Callable[[int], None]], Awaitable[Repaired]]


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that a repair is for: ids, or a filter, or all."""

    ids: tuple[str, ...]
    wanted: Filter
    is_all: bool

    def checked(self) -> Selection:
        """Fix the end of the selection before it is counted and asked about, so that it takes no newer dead letters.

        Raises `Refusal` for no selection and for two of them.
        """
        has_filter = self.wanted != Filter()
        if self.ids and (has_filter or self.is_all):
            raise Refusal("name either ids or options that select, not both")
        if not self.ids and not has_filter and not self.is_all:
            raise Refusal("say which: ids, --type, --error, --handler, --group, --before, or --all")
        if self.ids or self.wanted.before is not None:
            return self
        return replace(self, wanted=replace(self.wanted, before=datetime.now(UTC)))

    def command(self, settings: Settings, action: str, *extra: str) -> str:
        """Write the command that continues a repair of this selection."""
        wanted = self.wanted
        options = {
            "--type": wanted.type,
            "--error": wanted.error_type,
            "--handler": wanted.error_handler,
            "--group": wanted.group,
            "--before": time_of(wanted.before),
        }
        words = [word for name, value in options.items() if value is not None for word in (name, value)]
        return settings.command("failed", action, *words, *extra, *last(self.ids))

    @property
    def selected(self) -> list[str] | FailedSelector:
        """The ids, or the selector."""
        return list(self.ids) or self.wanted.selector()

    @property
    def only(self) -> Callable[[StoredEvent], bool] | None:
        """Which of the dead letters of the selector are meant: those of the group."""
        return None if self.wanted.group is None else self.wanted.takes


async def read_ids(outbox: Outbox, wanted: Filter, *, limit: int | None = None) -> list[str]:
    """Read the ids of the dead letters that a filter takes, up to a limit."""
    ids: list[str] = []
    async for page in pages(outbox, EventState.FAILED, type=wanted.type):
        ids += [event.id for event in page.events if wanted.takes(event)]
        if limit is not None and len(ids) >= limit:
            break
    return ids


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
    if _dry_run(settings, selection, "retry", is_wanted=dry_run):
        return
    if not ids:
        confirm(f"{_about(settings, selection)} Deliver them again?", yes=yes)

    async def repair(outbox: Outbox, on_progress: Callable[[int], None]) -> Repaired:
        from dynamodb_outbox.repairing import redrive  # noqa: PLC0415 - it imports the event loop

        return await redrive(outbox, selection.selected, only=selection.only, rate=rate, on_progress=on_progress)

    _run(settings, selection, "retry", repair, *_at(rate))


@click.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Say which events it would be, and change nothing.")
@click.pass_obj
def skip(settings: Settings, *, ids: tuple[str, ...], dry_run: bool) -> None:
    """Let the ordering keys go on that dead letters block. The events stay dead letters.

    A later `failed retry` puts them to the ends of their lines.
    """
    selection = Selection(ids, Filter(), is_all=False)
    if _dry_run(settings, selection, "skip", is_wanted=dry_run):
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
    if _dry_run(settings, selection, "discard", is_wanted=dry_run):
        return
    about = f"{len(ids)} events." if ids else _about(settings, selection)
    confirm(f"{about} Discard them for ever?", yes=yes)

    async def repair(outbox: Outbox, on_progress: Callable[[int], None]) -> Repaired:
        from dynamodb_outbox.repairing import discard  # noqa: PLC0415 - it imports the event loop

        selected, only = selection.selected, selection.only
        return await discard(outbox, selected, reason=reason, by=by, only=only, rate=rate, on_progress=on_progress)

    _run(settings, selection, "discard", repair, "--reason", reason, "--by", by, *_at(rate))


def _at(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else ("--rate", decimal(rate))


def _dry_run(settings: Settings, selection: Selection, action: str, *, is_wanted: bool) -> bool:
    if not is_wanted:
        return False
    found = list(selection.ids) or run_async(settings, lambda: _count(settings, selection))
    is_complete = len(found) < DRY_RUN_LIMIT
    made = document("dry_run", action=action, ids=found, is_complete=is_complete)

    def people(out: Printer) -> None:
        for event_id in found:
            out.text(event_id)
        out.note(
            f"{many(len(found), 'event') if is_complete else f'{len(found):,} or more events'}; nothing was changed"
        )

    Printer.of(settings).show(made, people)
    return True


async def _count(settings: Settings, selection: Selection) -> list[str]:
    async with settings.connect() as outbox:
        return await read_ids(outbox, selection.wanted, limit=DRY_RUN_LIMIT)


def _about(settings: Settings, selection: Selection) -> str:
    count = len(run_async(settings, lambda: _count(settings, selection)))
    return f"{count:,}{' or more' if count >= DRY_RUN_LIMIT else ''} dead letters of {settings.table_name!r}."


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
    past = {"retry": "due again", "skip": "set aside", "discard": "discarded"}[action]
    out.text(f"{many(len(repaired.done), 'event')} {past}")
    for event_id, status in repaired.refused.items():
        out.text(f"{event_id}: not changed, {_why(action, status)}")


def _why(action: str, status: EventStatus | None) -> str:
    if status is None:
        return "there is no such event"
    return f"it is {status}{', and blocks no ordering key' if action == 'skip' else ''}"
