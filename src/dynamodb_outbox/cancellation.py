"""Tells a cancellation of the running task's own scope from a cancellation that other code caused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import anyio


def is_from_a_scope() -> bool:
    """Tell whether a cancel scope around the running task was cancelled, so that the task must end."""
    return anyio.current_effective_deadline() == -math.inf


def absorb_foreign_cancellation(error: BaseException) -> bool:
    """Absorb a cancellation that did not come from a scope around the running task. False: raise `error` again.

    Code that awaits a user's callback, or a task that other code may cancel, calls this in its `except`. If the
    callback was cancelled, the error is a failure like any other: `uncancel` takes the cancellation back, and the
    result is true. If a scope around the task was cancelled, the result is false. For other exceptions it is true.
    """
    if not isinstance(error, asyncio.CancelledError):
        return True
    if is_from_a_scope():
        return False
    absorb()
    return True


def absorb() -> None:
    """Take back the cancellations of the running task that came from other code, so that the task goes on."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def wait_until_done(task: asyncio.Task[Any], *, on_cancel: Callable[[], object], shielded: bool = False) -> None:
    """Wait until a task has ended, even if the waiting task is cancelled several times.

    `on_cancel` is called for each cancellation, to make the task end sooner; the last cancellation is raised at the
    end. `shielded` is for a caller whose cancel scope was cancelled before the call: the scope does not end the wait.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            # A cancelled scope raises at every await, unless there is a shield. `task.cancel()` passes the shield.
            with anyio.CancelScope(shield=shielded or cancelled is not None):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the cancellation is raised instead
        raise cancelled
