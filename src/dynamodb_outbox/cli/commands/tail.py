"""`events tail`: a line for each event that comes into a state, or is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from dynamodb_outbox.cli.commands.events import STATES, last_error
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import event_record
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION
from dynamodb_outbox.stored_events import StoredEvent

if TYPE_CHECKING:
    from dynamodb_outbox.port import Outbox

_Seen = tuple[str, str, int]


@click.command()
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Only this state; may be repeated. All of them otherwise.",
)
@click.option("--type", help="Only events of this type.")
@click.option("--every", type=DURATION, default="2s", show_default=True, help="The time between two reads.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Events per state and read."
)
@click.option("--existing", is_flag=True, help="Begin with the events that are there now.")
@click.pass_obj
def tail(
    settings: Settings, states: tuple[str, ...], type: str | None, every: float, limit: int, *, existing: bool
) -> None:
    """Follow the events of an outbox, until Ctrl-C.

    Each round reads the first `--limit` events of each state: those that are due for the longest time, and the latest
    dead letters. An event that is completed between two reads is not seen. A round costs about half a read unit for
    each state and each event.
    """
    run_async(
        settings,
        lambda: _follow(settings, states or STATES, type, every=every, limit=limit, existing=existing),
        limited=False,
    )


async def _follow(
    settings: Settings, states: Sequence[str], type: str | None, *, every: float, limit: int, existing: bool
) -> None:
    import anyio  # noqa: PLC0415 - the help needs no event loop

    printer = Printer.of(settings)
    async with settings.connect() as outbox:
        seen = {_key(event) for event in await _read(outbox, states, type, limit)} if not existing else set[_Seen]()
        while True:
            found = await _read(outbox, states, type, limit)
            for event in found:
                if _key(event) not in seen:
                    _show(printer, event)
            seen = {_key(event) for event in found}
            await anyio.sleep(every)


def _key(event: StoredEvent) -> _Seen:
    return event.id, event.state, event.retry_count


async def _read(outbox: Outbox, states: Iterable[str], type: str | None, limit: int) -> list[StoredEvent]:
    pages = [await outbox.list_events(state, type=type, limit=limit) for state in states]
    return [event for page in pages for event in page.events]


def _show(printer: Printer, event: StoredEvent) -> None:
    if printer.output != "table":
        printer.line("event", event_record(event, payload=False))
        return
    now = f"{datetime.now(UTC):%H:%M:%S}"
    shown = [now, event.state.ljust(10), event.type, event.id, f"retries {event.retry_count}", event.claimed_by]
    text = "  ".join(str(each) for each in [*shown, last_error(event)] if each)
    printer.text(text.replace("\n", " "))
