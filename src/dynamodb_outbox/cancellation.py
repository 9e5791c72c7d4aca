"""Whose cancellation is it: that of a scope around us, or of somebody who cancelled the task or what it awaits?"""

from __future__ import annotations

import asyncio
import math

import anyio


def is_from_a_scope() -> bool:
    """Tell whether a cancel scope around the running task was cancelled, so that the task has to end."""
    return anyio.current_effective_deadline() == -math.inf


def is_ours(error: BaseException) -> bool:
    """Tell whether an exception is the cancellation that the running task has to end with.

    Any other cancellation is absorbed: it is a failure of what was awaited.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    if is_from_a_scope():
        return True
    absorb()
    return False


def absorb() -> None:
    """Take back the cancellations of the running task that came from elsewhere, and that end nothing of ours."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
