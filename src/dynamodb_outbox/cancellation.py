"""Whose cancellation is it: that of a scope around us, or of somebody who cancelled the task or what it awaits?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import anyio


def is_from_a_scope() -> bool:
    """Tell whether a cancel scope around the running task was cancelled, so that the task has to end."""
    return anyio.current_effective_deadline() == -math.inf


def absorb_foreign_cancellation(error: BaseException) -> bool:
    """Absorb a cancellation that is not the running task's own; false if the task has to end with `error`.

    Code that awaits a user's callback, or a task that others may cancel, calls this in its `except`: a cancellation of
    what was awaited is a failure like any other, while one of a scope around the task has to be raised again. A
    cancellation that is absorbed is taken back with `uncancel`. Any other exception is not a cancellation: true.
    """
    if not isinstance(error, asyncio.CancelledError):
        return True
    if is_from_a_scope():
        return False
    absorb()
    return True


def absorb() -> None:
    """Take back the cancellations of the running task that came from elsewhere, and that end nothing of ours."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def wait_until_done(task: asyncio.Task[Any], *, on_cancel: Callable[[], object], shielded: bool = False) -> None:
    """Wait until a task has ended, also when the waiting task is cancelled meanwhile, however often.

    `on_cancel` is called for each cancellation, and has the task end sooner; the last cancellation is raised at the
    end. `shielded` keeps out the cancel scopes around: it is for a caller whose scope was cancelled before.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # A cancelled scope raises at every await, until there is a shield. A shield keeps no `task.cancel()` out.
            with anyio.CancelScope(shield=shielded or cancelled is not None):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the cancellation is raised instead
        raise cancelled
