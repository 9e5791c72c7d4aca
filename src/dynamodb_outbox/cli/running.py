"""Runs the asynchronous part of a command: its time limit, and Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import click

from dynamodb_outbox.cli.exits import Refusal, refusal_of
from dynamodb_outbox.cli.settings import Settings

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - the user asked for it
    """Ctrl-C was pressed during a long repair. The batch that was under way is done."""


class Interrupt:
    """Ctrl-C during a repair of many events: it ends after the current batch."""

    def __init__(self) -> None:
        self.requested = False

    def request(self) -> None:
        """Note the first Ctrl-C; a second one ends the program at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        click.echo("\nstopping after the current batch; press Ctrl-C again to stop at once", err=True)

    def check(self) -> None:
        """Raise `Interrupted` after the first Ctrl-C."""
        if self.requested:
            raise Interrupted


def run_async(settings: Settings, work: Callable[[], Awaitable[T]], *, limited: bool = True) -> T:
    """Run an async function to its end. Errors of the library become a `Refusal` with an exit code."""
    import anyio  # noqa: PLC0415 - the help needs no event loop

    async def bounded() -> T:
        with anyio.fail_after(settings.timeout if limited else None):
            return await work()

    try:
        return anyio.run(bounded)
    except Exception as error:
        refusal = refusal_of(error, seconds=settings.timeout, doctor=settings.command("doctor"))
        if refusal is None or isinstance(error, Refusal):
            raise
        raise refusal from error


def install(interrupt: Interrupt) -> None:
    """Let Ctrl-C request the interruption, while the running event loop runs."""
    import asyncio  # noqa: PLC0415 - the help needs no event loop

    # Windows has no signal handlers of a loop, and only the main thread has any: else Ctrl-C ends the program at once.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt.request)
