"""`dashboards`: writes the Grafana dashboard, the alert rules and the CloudWatch alarms to stdout."""

from __future__ import annotations

from typing import Final

import click

KINDS: Final = ("grafana", "prometheus-rules", "cloudwatch")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--runbook", help="The address of your copy of the runbook page, for the links of alerts.")
def dashboards(kind: str, runbook: str | None) -> None:
    """Write a dashboard, alert rules or alarms to stdout."""
    from dynamodb_outbox.dashboards.render import RUNBOOK, render  # noqa: PLC0415 - it imports the table of metrics

    click.echo(render(kind, runbook=runbook or RUNBOOK), nl=False)
