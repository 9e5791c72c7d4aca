"""`table`: create, verify and describe the table, and its time to live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dynamodb_outbox.cli.confirming import confirm
from dynamodb_outbox.cli.exits import FINDINGS
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import document
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.errors import StorageError, TableMismatchError

if TYPE_CHECKING:
    from dynamodb_outbox.dynamodb.inspecting.facts import TableFacts, TimeToLive
    from dynamodb_outbox.dynamodb.inspecting.inspector import Inspector

T = TypeVar("T")
PROJECTIONS = ("ALL", "KEYS_ONLY")
TTL_ATTRIBUTE = "expireAt"


@click.group()
def table() -> None:
    """Create, verify and describe the table."""


@table.command()
@click.option("--projection", type=click.Choice(PROJECTIONS), default="ALL", show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def create(settings: Settings, projection: Any, *, dry_run: bool, yes: bool) -> None:
    """Create the table and its index, for development. In production, use `template`.

    Time to live is enabled, too. A table that exists and fits stays as it is.
    """
    printer = Printer.of(settings)
    name = settings.table_name
    if not dry_run:
        confirm(f"Create the table {name!r}?", yes=yes)

        async def work() -> None:
            # With a retention, the outbox enables time to live, which the tombstones of windows need in any case.
            async with settings.connect(retention=settings.retention or 0.0) as outbox:
                await outbox.create_table(projection=projection)

        run_async(settings, work, limited=False)
    made = document("table_created", table=name, projection=projection, dry_run=dry_run)
    text = f"{name} would be created if it does not exist" if dry_run else f"{name} is there, and fits"
    printer.show(made, lambda out: out.text(text))


@table.command()
@click.pass_obj
def verify(settings: Settings) -> None:
    """Compare the table with what the outbox needs: keys, index, projection, and time to live with --retention."""

    async def work() -> list[str]:
        async with settings.connect() as outbox:
            try:
                await outbox.verify_table()
            except TableMismatchError as error:
                return error.differences
            return []

    differences = run_async(settings, work)

    def people(out: Printer) -> None:
        out.text(f"{settings.table_name} {'does not fit:' if differences else 'fits'}")
        for difference in differences:
            out.text(f"  - {difference}")

    made = document("table_verified", table=settings.table_name, differences=differences)
    Printer.of(settings).show(made, people)
    if differences:
        click.get_current_context().exit(FINDINGS)


def inspect(settings: Settings, read: Callable[[Inspector], Awaitable[T]]) -> T:
    """Open the outbox, and read facts about its table."""

    async def work() -> T:
        from dynamodb_outbox.dynamodb.inspecting.inspector import Inspector  # noqa: PLC0415 - it imports the AWS SDK

        async with settings.connect() as outbox:
            return await read(Inspector(outbox))

    return run_async(settings, work)


@table.command()
@click.pass_obj
def describe(settings: Settings) -> None:
    """Show the table as DynamoDB describes it: status, indexes, capacity, size, time to live."""

    async def read(inspector: Inspector) -> tuple[TableFacts, TimeToLive | None]:
        facts = await inspector.table()
        try:
            return facts, await inspector.time_to_live()
        except StorageError:
            return facts, None

    facts, ttl = inspect(settings, read)
    indexes = [
        {
            "name": index.name,
            "status": index.status,
            "is_backfilling": index.is_backfilling,
            "projection": index.projection,
            "read_units": index.read_units,
            "write_units": index.write_units,
        }
        for index in facts.indexes
    ]
    made = document(
        "table",
        table=facts.name,
        arn=facts.arn,
        status=facts.status,
        billing=facts.billing,
        read_units=facts.read_units,
        write_units=facts.write_units,
        items=facts.items,
        bytes=facts.bytes,
        is_protected=facts.is_protected,
        regions=list(facts.regions),
        indexes=indexes,
        differences=list(facts.differences),
        time_to_live=None if ttl is None else {"status": ttl.status, "attribute": ttl.attribute},
    )
    Printer.of(settings).show(made, lambda out: _show(out, made))


def _show(out: Printer, made: dict[str, Any]) -> None:
    names = ("table", "arn", "status", "billing", "read_units", "write_units", "is_protected", "regions")
    out.pairs((name.replace("_", " "), made[name]) for name in names)
    out.pairs([("items, about", made["items"]), ("bytes, about", made["bytes"])])
    if made["time_to_live"]:
        out.pairs([("time to live", f"{made['time_to_live']['status']} {made['time_to_live']['attribute'] or ''}")])
    out.text("")
    columns = ("name", "status", "projection", "read units", "write units")
    out.table(columns, [[index[column.replace(" ", "_")] for column in columns] for index in made["indexes"]])
    for difference in made["differences"]:
        out.text(f"differs: {difference}", style="bold red")


@table.command()
@click.option("--enable", is_flag=True, help=f"Turn it on for the attribute {TTL_ATTRIBUTE}.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def ttl(settings: Settings, *, enable: bool, dry_run: bool, yes: bool) -> None:
    """Show the time to live, or turn it on: DynamoDB then deletes items whose expireAt has passed."""
    name = settings.table_name
    if enable and not dry_run:
        confirm(f"Enable time to live of {name!r} for the attribute {TTL_ATTRIBUTE}?", yes=yes)

        async def work() -> None:
            async with settings.connect(retention=settings.retention or 0.0) as outbox:
                # First a read: create_table would create a table that does not exist.
                await _refuse_missing(outbox)
                await outbox.create_table()

        run_async(settings, work)
    found = inspect(settings, lambda inspector: inspector.time_to_live())
    made = document("time_to_live", table=name, status=found.status, attribute=found.attribute, dry_run=dry_run)
    text = f"time to live of {name}: {found.status}{f' for {found.attribute}' if found.attribute else ''}"
    if enable and dry_run:
        text += f"; it would be enabled for {TTL_ATTRIBUTE}"
    Printer.of(settings).show(made, lambda out: out.text(text))


async def _refuse_missing(outbox: Any) -> None:
    try:
        await outbox.verify_table()
    except TableMismatchError as error:
        if any("time to live" not in difference for difference in error.differences):
            raise
