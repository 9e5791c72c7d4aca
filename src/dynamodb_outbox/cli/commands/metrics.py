"""`metrics`: what a sample of the outbox shows, in the text format of Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from dynamodb_outbox.cli.exits import UNREACHABLE, Refusal
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION
from dynamodb_outbox.event_states import LISTED
from dynamodb_outbox.integrations import metrics as names
from dynamodb_outbox.stored_events import Sample


@click.command()
@click.option("--once", is_flag=True, help="Take one sample, and end.")
@click.option("--every", type=DURATION, default="15s", show_default=True, help="The time between two samples.")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Replace this file with each sample, for the textfile collector of Prometheus' node_exporter.",
)
@click.pass_obj
def metrics(settings: Settings, every: float, path: Path | None, *, once: bool) -> None:
    """Write samples of the outbox as metrics of Prometheus, until Ctrl-C.

    The names are those that a service exports by OpenTelemetry, so that the same dashboards and alert rules fit. Only
    what is in the table is known here: events by state, and ages. If DynamoDB is not reached, the next sample may be.
    """
    _write_sample(settings, path)
    while not once:
        time.sleep(every)
        try:
            _write_sample(settings, path)
        except Refusal as refused:
            if refused.code != UNREACHABLE:
                raise
            refused.show()


def _write_sample(settings: Settings, path: Path | None) -> None:
    text = "".join(exposition(run_async(settings, lambda: _read(settings)), settings.table_name))
    if path is None:
        click.echo(text, nl=False)
    else:
        _replace(path, text)


async def _read(settings: Settings) -> Sample:
    async with settings.connect() as outbox:
        return await outbox.sample()


def exposition(sample: Sample, table_name: str) -> Iterator[str]:
    """Write a sample in the text format of Prometheus."""
    values: list[tuple[names.Metric, dict[str, float]]] = [
        (names.EVENTS, {state: getattr(sample, state).at_least for state in LISTED}),
        (names.BLOCKED_KEYS, {} if sample.blocked_keys.is_unknown else {"": sample.blocked_keys.at_least}),
        (names.OLDEST_DUE_AGE, {"": sample.oldest_due_age}),
        (names.OLDEST_EXPIRED_AGE, {"": sample.oldest_expired_age}),
        (names.SAMPLE_TIME, {"": sample.at.timestamp()}),
    ]
    for metric, by_state in values:
        name = metric.prometheus_name
        yield f"# HELP {name} {metric.description}\n# TYPE {name} {metric.kind}\n"
        for state, value in by_state.items():
            labels = {names.TABLE: table_name, **({names.STATUS: state} if state else {})}
            shown = ",".join(f'{names.label_of(label)}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{name}{{{shown}}} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _replace(path: Path, text: str) -> None:
    """Write the file under another name first: the collector never reads half of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    except OSError as error:
        raise Refusal(f"--file {path}: {error}") from error
