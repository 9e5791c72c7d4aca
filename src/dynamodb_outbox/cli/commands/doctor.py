"""`doctor`: finds out why an outbox is stuck, and says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from dynamodb_outbox.cli.commands.version import versions
from dynamodb_outbox.cli.exits import FINDINGS
from dynamodb_outbox.cli.output import Printer, indented
from dynamodb_outbox.cli.records import document, time_of
from dynamodb_outbox.cli.running import run_async
from dynamodb_outbox.cli.settings import Settings
from dynamodb_outbox.cli.values import DURATION

if TYPE_CHECKING:
    from dynamodb_outbox.cli.doctor.diagnosis import Diagnosis
    from dynamodb_outbox.cli.doctor.evidence import Assumed, Evidence
    from dynamodb_outbox.cli.doctor.finding import Finding

ROLES = ("operator", "worker", "emit", "all")
STYLES = {"ok": "green", "warn": "bold yellow", "fail": "bold red", "skip": "dim"}


@click.command()
@click.option("--deep", is_flag=True, help="Scan up to 20,000 items for events that no worker can find.")
@click.option(
    "--emit-probe", is_flag=True, help="Emit an event of the type outbox.doctor, and see whether it is taken."
)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="operator",
    show_default=True,
    help="The role of the credentials at hand: `worker` inside of a worker's container.",
)
@click.option(
    "--lease", type=DURATION, default="30s", show_default=True, help="The processing_timeout of your service."
)
@click.option("--interval", type=DURATION, default="5s", show_default=True, help="Between two samples, if events wait.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option("--all", "shows_all", is_flag=True, help="Show the checks that found nothing, too.")
@click.pass_obj
def doctor(
    settings: Settings,
    role: Any,
    lease: float,
    interval: float,
    *,
    deep: bool,
    emit_probe: bool,
    strict: bool,
    shows_all: bool,
) -> None:
    """Find out what is wrong: every check, the most likely cause first, and the command that repairs it.

    It changes nothing, except with --emit-probe. It takes some seconds, and at most about 1,000 read units for events
    of 1 KB. Exit code 1 if a check fails.
    """
    from dynamodb_outbox.cli.doctor.diagnosis import diagnose  # noqa: PLC0415 - it imports the AWS SDK
    from dynamodb_outbox.cli.doctor.evidence import Assumed  # noqa: PLC0415

    assumed = Assumed(role=role, retention=settings.retention, lease=lease)
    # Each part has a limit of its time, and the doctor tells what it knows even if nothing answers.
    work = partial(_gather, settings, assumed, interval, deep=deep, emit_probe=emit_probe)
    evidence = run_async(settings, work, limited=False)
    diagnosis = diagnose(evidence)
    printer = Printer.of(settings)
    made = document(
        "doctor",
        table=settings.table_name,
        at=time_of(evidence.now),
        most_likely=None if diagnosis.first is None else diagnosis.first.check,
        summary=diagnosis.sentence(),
        findings=[finding.record() for finding in diagnosis.findings],
    )
    printer.show_many(made, "findings", "finding", lambda out: _show(out, diagnosis, shows_all=shows_all))
    if diagnosis.has_failed or (strict and diagnosis.has_warned):
        click.get_current_context().exit(FINDINGS)


async def _gather(settings: Settings, assumed: Assumed, interval: float, *, deep: bool, emit_probe: bool) -> Evidence:
    from dynamodb_outbox.cli.app import facts_of  # noqa: PLC0415 - they import the AWS SDK
    from dynamodb_outbox.cli.doctor.gathering import Timing, gather  # noqa: PLC0415

    app = await facts_of(settings.app) if settings.app else None
    evidence = await gather(settings, assumed, Timing(interval=interval), deep=deep, emit_probe=emit_probe)
    evidence.app = app
    evidence.versions = versions()
    return evidence


def _show(out: Printer, diagnosis: Diagnosis, *, shows_all: bool) -> None:
    for finding in diagnosis.findings:
        if shows_all or finding.mark not in ("ok", "skip"):
            _show_finding(out, finding)
    if not shows_all:
        passed = sum(finding.mark == "ok" for finding in diagnosis.findings)
        out.text(f"{passed} checks are ok; --all shows them", style="dim")
        if skipped := [finding for finding in diagnosis.findings if finding.mark == "skip"]:
            out.text(f"{len(skipped)} were not made: {_why_not(skipped)}", style="dim")
        out.text("")
    out.text(diagnosis.sentence(), style="bold")
    if diagnosis.first is None:
        from dynamodb_outbox.cli.doctor.diagnosis import NOT_PROVEN  # noqa: PLC0415 - it imports the AWS SDK

        out.text(NOT_PROVEN)


def _why_not(skipped: Sequence[Finding]) -> str:
    """Name the checks that were not made, and why; those with the same reason together."""
    names: dict[str, list[str]] = {}
    for finding in skipped:
        names.setdefault(finding.title, []).append(finding.check)
    return "; ".join(f"{', '.join(checks)} ({reason})" for reason, checks in names.items())


def _show_finding(out: Printer, finding: Finding) -> None:
    out.text(indented(f"{finding.mark.upper():4}  {finding.check}: {finding.title}", 13), style=STYLES[finding.mark])
    for line in (*finding.evidence, *((f"cause: {finding.cause}",) if finding.cause else ())):
        out.text(indented(f"      {line}", 13))
    for line in finding.repair:
        out.text(f"      do:    {line}")
    if finding.docs:
        out.text(f"      see:   {finding.docs}\n")
