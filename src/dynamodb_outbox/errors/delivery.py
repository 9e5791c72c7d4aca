"""Errors of delivering: one attempt of a handler, one outcome, or the worker itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodb_outbox.errors.usage import OutboxError
from dynamodb_outbox.errors.wording import describe

if TYPE_CHECKING:
    from dynamodb_outbox.event import Event


class StoredEventError(OutboxError):
    """A stored item that cannot be read as an event. It became FAILED. `reason` says what is wrong with it."""

    def __init__(self, *, event_id: str, reason: str) -> None:
        self.event_id = event_id
        self.reason = reason
        super().__init__(
            f"the stored item {event_id!r} is no readable event: {reason}; mend the item, "
            "then redrive it with retry_events"
        )


class DeliveryError(OutboxError):
    """An attempt to deliver one event did not succeed. `event_type` is None if the type is not known."""

    def __init__(self, message: str, *, event_id: str, event_type: str | None = None) -> None:
        self.event_id = event_id
        self.event_type = event_type
        super().__init__(message)


class HandlerError(DeliveryError):
    """A handler raised. The exception is the `__cause__`; `event` is the event as it is stored."""

    def __init__(self, *, event: Event, handler: str, attempt: int, cause: BaseException) -> None:
        self.event = event
        self.handler = handler
        self.attempt = attempt
        super().__init__(
            f"handler {handler!r} failed on {event.type!r} event {event.id!r}, attempt {attempt}: {describe(cause)}",
            event_id=event.id,
            event_type=event.type,
        )
        self.__cause__ = cause


class HandlerTimeoutError(DeliveryError):
    """A handler reached its time limit after `seconds`, and was cancelled. `timeout` is its option, or None."""

    def __init__(self, *, event: Event, handler: str, seconds: float, timeout: float | None = None) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        self.timeout = timeout
        limit = (
            "before its lease could end; make it quicker, or declare a longer timeout for it: "
            f"on({event.type!r}, timeout=...)"
            if timeout is None
            else f"for its timeout of {timeout:g} s, or because its lease could not be renewed"
        )
        super().__init__(
            f"handler {handler!r} was cancelled after {seconds:.3g} s on {event.type!r} event {event.id!r}, {limit}",
            event_id=event.id,
            event_type=event.type,
        )


class HandlerStuckError(DeliveryError):
    """A handler did not end within `seconds` of its cancellation. The worker goes on; the handler may still run."""

    def __init__(self, *, event: Event, handler: str, seconds: float) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        super().__init__(
            f"handler {handler!r} of {event.type!r} event {event.id!r} did not end within {seconds:g} s of its "
            "cancellation, and was left behind: it must not swallow asyncio.CancelledError, but re-raise it",
            event_id=event.id,
            event_type=event.type,
        )


class LoopBlockedError(DeliveryError):
    """A handler blocked the event loop for `seconds`, so long that leases may have run out."""

    def __init__(self, *, event: Event, handler: str, seconds: float) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        super().__init__(
            f"handler {handler!r} held up the event loop for {seconds:.3g} s on {event.type!r} event {event.id!r}: "
            "nothing else ran meanwhile, not even the renewal of leases; run blocking code in a thread, with "
            "anyio.to_thread.run_sync",
            event_id=event.id,
            event_type=event.type,
        )


class NoHandlerError(DeliveryError):
    """This process has no handler for the type. The event is released to other workers, without an attempt.

    It is reported once for each type. `fails_after` is the outbox's `unhandled_timeout` in seconds, or None. In the
    last error of a FAILED event, `seconds` says for how long no worker had a handler.
    """

    def __init__(
        self, *, event_id: str, event_type: str, seconds: float | None = None, fails_after: float | None = None
    ) -> None:
        self.seconds = seconds
        self.fails_after = fails_after
        end = "" if fails_after is None else f"; after {fails_after:g} s without a handler it becomes FAILED"
        became = (
            "it was given back without an attempt, for a worker that has one; "
            f"register one with @bus.on({event_type!r}), unless another service or a newer release handles it{end}"
            if seconds is None
            else f"no worker had one for {seconds:.0f} s; start a worker with @bus.on({event_type!r}), then call "
            f"bus.retry_events([{event_id!r}])"
        )
        super().__init__(
            f"no handler for the event type {event_type!r} (event {event_id!r}): {became}",
            event_id=event_id,
            event_type=event_type,
        )


class LeaseLostError(DeliveryError):
    """An outcome was refused, because this worker does not hold the event any more.

    The lease ran out and another worker claimed the event, or the item was deleted. The handlers of this claim did
    run, so the event may be handled twice. `outcome` is complete, retry, fail, release, or the name of another write.
    """

    def __init__(self, *, event_id: str, event_type: str, outcome: str) -> None:
        self.outcome = outcome
        super().__init__(
            f"{outcome} of {event_type!r} event {event_id!r} was refused: its lease was lost to another worker, or the "
            "item is gone; if handlers are slow, declare a timeout for them, on(..., timeout=...), or raise "
            "processing_timeout",
            event_id=event_id,
            event_type=event_type,
        )


class SettleError(OutboxError):
    """An outcome could not be written. The event stays PROCESSING until its lease ends; then it is recovered."""

    def __init__(self, *, event_id: str, outcome: str, cause: BaseException) -> None:
        self.event_id = event_id
        self.outcome = outcome
        super().__init__(
            f"{outcome} of event {event_id!r} could not be written, it is delivered again when its lease ends: {cause}"
        )
        self.__cause__ = cause


class RecoveryError(OutboxError):
    """An event whose lease ran out could not be recovered. The recovery of this event is tried again later."""

    def __init__(self, *, event_id: str, cause: BaseException) -> None:
        self.event_id = event_id
        super().__init__(
            f"event {event_id!r}, whose lease ran out, could not be recovered, and is tried again later: {cause}; "
            "look at the item in the table, and fix or delete it"
        )
        self.__cause__ = cause


class PollingError(OutboxError):
    """A poll failed. The worker tries again after `retry_in` seconds.

    `loop` is polling, recovery or renewal; `errors` counts the failures in a row.
    """

    def __init__(self, *, loop: str, errors: int, retry_in: float, cause: BaseException) -> None:
        self.loop = loop
        self.errors = errors
        self.retry_in = retry_in
        super().__init__(f"{loop} failed ({errors} in a row), next try in {retry_in:.3g} s: {describe(cause)}")
        self.__cause__ = cause


class WorkerError(OutboxError):
    """An unexpected exception in the worker, in the part named `loop`. The worker goes on, unless `ended` is true."""

    def __init__(self, *, loop: str, cause: BaseException, ended: bool = False) -> None:
        self.loop = loop
        self.ended = ended
        then = "the worker has ended, await bus.start() starts another" if ended else "the worker goes on"
        super().__init__(f"unforeseen in {loop}, {then}: {describe(cause)}")
        self.__cause__ = cause
