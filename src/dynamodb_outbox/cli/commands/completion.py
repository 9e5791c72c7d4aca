"""`completion`: the script that teaches a shell the commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Write the completion script of a shell. For bash: source <(dynamodb-outbox completion bash)."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    program = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(program, {}, "dynamodb-outbox", "_DYNAMODB_OUTBOX_COMPLETE").source())
