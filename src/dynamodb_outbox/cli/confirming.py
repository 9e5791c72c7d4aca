"""Questions before a change: who asks, and what happens if nobody can answer."""

from __future__ import annotations

import sys

import click

from dynamodb_outbox.cli.exits import Refusal


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `--yes` was given. Without a terminal, refuse: nobody is there to answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal(
            f"nothing was changed, since no terminal is there to ask. Add --yes to agree: {question}",
            label="REFUSED",
        )
    click.confirm(question, abort=True, err=True)


def assent() -> tuple[str, ...]:
    """Return `--yes` if no terminal is there to ask: a command that is printed here needs it."""
    return () if sys.stdin.isatty() else ("--yes",)


def actor() -> str:
    """Return who acts: USER@HOST, which is stored with a discarded event and with a hold."""
    from dynamodb_outbox.repairing import operator  # noqa: PLC0415 - it imports the event loop

    return operator()
