"""The options that select dead letters, the same for all commands of `failed`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from dynamodb_outbox.cli.reading import Filter
from dynamodb_outbox.cli.values import MOMENT

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Gives a command an option."""
_OPTIONS: tuple[Decorator, ...] = (
    click.option("--type", help="Only events of this type."),
    click.option("--error", help="Only events whose last error is of this class, such as KeyError."),
    click.option("--handler", help="Only events whose last error is of this handler."),
    click.option("--group", help="Only events of this group: see `failed groups`."),
    click.option("--blocks-key", is_flag=True, help="Only events that block their ordering keys."),
    click.option("--before", type=MOMENT, help="Only events that failed before this time, or this long ago (30m)."),
)


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and pass them to it as the `wanted` filter."""

    @functools.wraps(command)
    def with_filter(
        *arguments: Any,
        type: str | None,
        error: str | None,
        handler: str | None,
        group: str | None,
        blocks_key: bool,
        before: datetime | None,
        **others: Any,
    ) -> Any:
        wanted = Filter(
            type=type, error_type=error, error_handler=handler, group=group, blocks_key=blocks_key, before=before
        )
        return command(*arguments, wanted=wanted, **others)

    decorated: Callable[..., Any] = with_filter
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
