"""Reporting of errors that are not raised: to the user's callback, or to the log."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from dynamodb_outbox.cancellation import absorb_foreign_cancellation
from dynamodb_outbox.errors import HandlerError, OutboxError, PollingError
from dynamodb_outbox.observers import logger

OnError = Callable[[OutboxError], Awaitable[None] | None]
"""Called with every error that is reported instead of raised; may be async.

At most 100 calls of an async callback run at once. If more than 10,000 errors wait, the oldest are dropped.
"""

Report = Callable[[OutboxError], None]
"""Reports an error later, and returns at once."""


class ErrorReporter:
    """Hands errors to `on_error`, or logs them. Whatever `on_error` raises is logged and changes nothing."""

    def __init__(self, on_error: OnError | None, *, note: Report = lambda error: None) -> None:
        self._on_error = on_error
        self.note: Report = note
        """Called with an error before it waits to be reported."""

    async def report(self, error: OutboxError) -> None:
        """Report one error; awaits an async callback."""
        if self._on_error is None:
            logger.error("%s", error, exc_info=error.__cause__ if _needs_traceback(error) else None)
            return
        try:
            result = self._on_error(error)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as failure:
            if not absorb_foreign_cancellation(failure):
                raise
            logger.exception("on_error raised an exception for: %s", error)


def _needs_traceback(error: OutboxError) -> bool:
    """Tell whether the log shows where the cause was raised: not of an outage that goes on, nor of a `Reject`."""
    match error:
        case PollingError(errors=errors):
            return errors == 1
        case HandlerError(rejected=rejected):
            return not rejected
        case _:
            return True
