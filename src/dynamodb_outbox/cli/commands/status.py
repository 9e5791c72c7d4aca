"""`status`: one sample of the outbox, and whether it is well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import click

from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.reading import read_holds
from dynamodb_outbox.cli.records import document, hold_record, sample_record
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION, ago, span
from dynamodb_outbox.cli.verdict import Judgement, judge
from dynamodb_outbox.health import HealthStatus
from dynamodb_outbox.repairs import Hold
from dynamodb_outbox.stored_events import Sample

COUNT_LIMIT: Final = 1_000
UNLIMITED: Final = 1_000_000
EXIT_CODES: Final = {HealthStatus.HEALTHY: 0, HealthStatus.DEGRADED: 1, HealthStatus.UNHEALTHY: 2}
STYLES: Final = {
    HealthStatus.HEALTHY: "bold green",
    HealthStatus.DEGRADED: "bold yellow",
    HealthStatus.UNHEALTHY: "bold red",
}
MEANINGS: Final = {
    "due": "a worker with a free slot takes them",
    "scheduled": "a delay is ahead, or a retry: `doctor` says if a handler fails",
    "processing": "a worker holds them",
    "expired": "their lease ran out: recovery takes them",
    "held": "not delivered until `resume`",
    "failed": "dead letters",
}


@click.command()
@click.option("--watch", type=DURATION, metavar="SECONDS", help="Repeat until Ctrl-C.")
@click.option(
    "--count-limit",
    type=click.IntRange(0),
    default=COUNT_LIMIT,
    show_default=True,
    help="Stop each count here. 0 counts to the end: about 12 read units for 1,000 events in a KEYS_ONLY index, and "
    "the whole size of the events in an ALL index.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 0 if healthy, 1 if degraded, 2 if unhealthy.")
@click.pass_obj
def status(settings: Settings, watch: float | None, count_limit: int, *, exit_code: bool) -> None:
    """Show how many events wait, are handled or failed, and for how long."""
    printer = Printer.of(settings)
    judgement = _once(settings, printer, count_limit or UNLIMITED, is_watched=watch is not None)
    while watch is not None:
        time.sleep(watch)
        judgement = _once(settings, printer, count_limit or UNLIMITED, is_watched=True)
    if exit_code:
        click.get_current_context().exit(EXIT_CODES[judgement.status])


def _once(settings: Settings, printer: Printer, count_limit: int, *, is_watched: bool) -> Judgement:
    sample, holds = run_async(settings, lambda: _read(settings, count_limit))
    judgement = judge(sample, holds)
    made = _document(settings, sample, holds, judgement)
    if is_watched and settings.output == "table":
        click.clear()
    if is_watched and settings.output != "table":
        printer.line(made.pop("kind"), made)
    else:
        printer.show(made, lambda out: _show(out, settings, sample, judgement))
    return judgement


async def _read(settings: Settings, count_limit: int) -> tuple[Sample, list[Hold]]:
    async with settings.connect() as outbox:
        return await outbox.sample(count_limit=count_limit), list(await read_holds(outbox))


def _document(settings: Settings, sample: Sample, holds: Sequence[Hold], judgement: Judgement) -> dict[str, Any]:
    return document(
        "status",
        table=settings.table_name,
        status=str(judgement.status),
        reasons=list(judgement.reasons),
        sample=sample_record(sample),
        holds=[hold_record(hold) for hold in holds],
    )


def _show(out: Printer, settings: Settings, sample: Sample, judgement: Judgement) -> None:
    out.text(f"{settings.table_name}: {judgement.status.upper()}", style=STYLES[judgement.status])
    for reason in judgement.reasons:
        out.text(f"  {reason}")
    out.text("")
    ages = {
        "due": f"the oldest for {span(sample.oldest_due_age)}" if sample.oldest_due else None,
        "expired": f"the oldest for {span(sample.oldest_expired_age)}" if sample.oldest_expired else None,
        "failed": f"the latest {ago(sample.at, sample.latest_failed)}" if sample.latest_failed else None,
    }
    rows = [(state, getattr(sample, state), ages.get(state), meaning) for state, meaning in MEANINGS.items()]
    out.table(("state", "events", "age", "meaning"), rows)
    if judgement.status is not HealthStatus.HEALTHY:
        out.note(f"\nTo find out why: {settings.command('doctor')}")
