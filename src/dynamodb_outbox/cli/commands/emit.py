"""`emit`: stores one event."""

from __future__ import annotations

import sys
from typing import Any

import click

from dynamodb_outbox.cli.exits import Refusal
from dynamodb_outbox.cli.output import Printer
from dynamodb_outbox.cli.records import document, time_of
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION
from dynamodb_outbox.event import Event
from dynamodb_outbox.typed_json import from_json


@click.command()
@click.argument("type")
@click.argument("payload", default="null")
@click.option("--id", help="The id. With the same id, the event is stored once, however often you repeat the command.")
@click.option("--ordering-key", metavar="KEY", help="Deliver it after the earlier events of this key, and not before.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Deliver it after this long, such as 5m.")
@click.option("--metadata", default="{}", help="The metadata, a JSON object.")
@click.option("--dry-run", is_flag=True, help="Check type, payload and size, and store nothing.")
@click.pass_obj
def emit(
    settings: Settings,
    *,
    type: str,
    payload: str,
    id: str | None,
    ordering_key: str | None,
    delay: float | None,
    metadata: str,
    dry_run: bool,
) -> None:
    """Store an event of TYPE. PAYLOAD is JSON, or `-` to read it from stdin; without it, the payload is null.

    {"$decimal": "0.10"}, {"$bytes": "AA=="} and {"$set": [1, 2]} in the payload stand for these values.
    """
    content = _parsed(sys.stdin.read() if payload == "-" else payload, "PAYLOAD")
    described = _parsed(metadata, "--metadata")
    if not isinstance(described, dict):
        raise Refusal("--metadata must be a JSON object")
    options = {"id": id, "ordering_key": ordering_key, "delay": delay, "metadata": described, "if_exists": "ignore"}
    event = run_async(settings, lambda: _emit(settings, type, content, options, is_real=not dry_run))
    made = document(
        "emit",
        id=event.id,
        type=event.type,
        occurred_at=time_of(event.occurred_at),
        ordering_key=event.ordering_key,
        dry_run=dry_run,
    )
    text = "could be stored; nothing was changed" if dry_run else f"stored with the id {event.id}"
    Printer.of(settings).show(made, lambda out: out.text(text))


async def _emit(settings: Settings, type: str, payload: Any, options: dict[str, Any], *, is_real: bool) -> Event:
    from dynamodb_outbox import InMemoryOutbox, OutboxEventBus  # noqa: PLC0415 - they import the AWS SDK

    if not is_real:
        # It makes the same checks of the event, and sends nothing.
        event = await OutboxEventBus(InMemoryOutbox(numbers="decimal")).emit(type, payload, **options)
    else:
        async with settings.connect() as outbox:
            event = await OutboxEventBus(outbox).emit(type, payload, **options)
    if event is None:
        raise Refusal("the event was dropped")
    return event


def _parsed(text: str, what: str) -> Any:
    try:
        return from_json(text, decimals=True)
    except ValueError as error:
        raise Refusal(f"{what} is not JSON: {error}") from None
