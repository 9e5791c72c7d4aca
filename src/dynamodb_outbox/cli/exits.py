"""How a command ends: its exit code, and the sentence on stderr."""

from __future__ import annotations

from typing import Final

import click

from dynamodb_outbox.cli.terminal import plain
from dynamodb_outbox.errors import ConfigurationError, InvalidEventError, OutboxError, StorageError

OK: Final = 0
FINDINGS: Final = 1
"""The doctor found a fault, or a repair did not change every event that was named."""
USAGE: Final = 2
"""An option or an argument is wrong, or a confirmation is missing."""
UNREACHABLE: Final = 3
"""DynamoDB was not reached, refused the call, or does not have the table."""
INTERRUPTED: Final = 130
"""Ctrl-C. The events that were changed until then stay changed."""
BROKEN_PIPE: Final = 141
"""The reader of the output has ended, such as `head`."""


class Refusal(click.ClickException):
    """A sentence for stderr, which begins with the label, and the exit code of the program."""

    def __init__(self, message: str, code: int = USAGE, *, label: str = "error") -> None:
        super().__init__(message)
        self.code = code
        self.label = label

    def show(self, file: object = None) -> None:
        """Write the sentence to stderr. It may have stored text in it."""
        click.echo(f"{self.label}: {plain(self.format_message())}", err=True)


def refusal_of(error: Exception, *, seconds: float, doctor: str) -> Refusal | None:
    """Return the refusal for an error of the library; None for any other error.

    `seconds` is the time limit of the command, and `doctor` the command that finds out more.
    """
    match error:
        case TimeoutError():
            return Refusal(
                f"DynamoDB did not answer within {seconds:g} s. Check the network and the endpoint, or raise --timeout",
                UNREACHABLE,
            )
        case StorageError():
            return Refusal(f"{error}\nTo find out why: {doctor}", UNREACHABLE)
        case ConfigurationError() | InvalidEventError():
            return Refusal(str(error), USAGE)
        case OutboxError():
            return Refusal(str(error), FINDINGS)
        case _:
            return None
