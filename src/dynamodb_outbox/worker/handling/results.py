"""The result of one call of one handler: a closed union."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dynamodb_outbox.errors import UsageError
from dynamodb_outbox.outcome import Reject, RetryLater
from dynamodb_outbox.wording import shape


class CancelReason(Enum):
    """Why the worker cancelled a handler."""

    TIMEOUT = "the handler exceeded its time limit"
    STOP = "the worker stops"
    NO_PERMIT = "no permit of the handler's concurrency became free"
    HELD = "its type was held while it waited for a permit"
    TOO_LATE = "the lease of its ordering key was over before the handler could start"
    NOT_RENEWED = "the lease that the event shares was not renewed"
    NEWER_VERSION = "its payload has a newer version than the class of the handler"
    LEASE_LOST = "another worker may hold the event"


NOT_CALLED: Final = frozenset({CancelReason.TOO_LATE, CancelReason.NEWER_VERSION})
"""With these reasons a handler has not succeeded, even if a middleware has swallowed the cancellation."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned, or its transaction was committed."""


SUCCEEDED: Final = Succeeded()


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """The handler raised, or exceeded its time limit."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker cancelled the handler, and the handler is not to blame."""

    reason: CancelReason


HandlerResult = Succeeded | HandlerFailure | Interrupted


def blamed_error(result: HandlerResult) -> BaseException | None:
    """Return the error that a handler is blamed for; a `CancelledError` if it was interrupted."""
    match result:
        case HandlerFailure(error=error):
            return error
        case Interrupted():
            return asyncio.CancelledError()
        case Succeeded():
            return None


def signal_in(error: BaseException) -> Reject | RetryLater | None:
    """Find a `Reject` or a `RetryLater`, also where a task group of the handler wrapped it."""
    if isinstance(error, (Reject, RetryLater)):
        return error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if signal := signal_in(member):
                return signal
    return None


def refuse_awaitable(returned: object, handler: str) -> None:
    """Raise `UsageError` if a handler returned a coroutine, a task or a future: the worker does not await it."""
    if returned is None or not isinstance(returned, Awaitable):
        return
    if isinstance(returned, Coroutine):
        returned.close()
    raise UsageError(
        f"handler {handler!r} returned {shape(returned)}, which the worker does not await: write `await` before the "
        "call in the handler"
    )
