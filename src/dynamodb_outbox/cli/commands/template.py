"""`template`: writes the templates of the table and of its permissions to stdout."""

from __future__ import annotations

import click

from dynamodb_outbox.cli.settings import Settings

TEMPLATES = ("cloudformation", "terraform", "iam")
ROLES = ("emit", "worker", "operator", "observer", "all")


@click.command()
@click.argument("name", type=click.Choice(TEMPLATES))
@click.option(
    "--role", type=click.Choice(ROLES), default="all", show_default=True, help="With iam: the policy of a role."
)
@click.pass_obj
def template(settings: Settings, name: str, role: str) -> None:
    """Write a template to stdout, for the table that --table names."""
    from dynamodb_outbox.dynamodb.schema.templates import rendering  # noqa: PLC0415 - it imports the AWS SDK

    click.echo(rendering.render(name, table_name=settings.table, role=None if role == "all" else role), nl=False)
