"""Errors of delivering: one attempt of a handler, one outcome, or the worker itself."""

from __future__ import annotations

from dynamodb_outbox.event import Event
from dynamodb_outbox.event_errors import OutboxError
from dynamodb_outbox.wording import describe


class StoredEventError(OutboxError):
    """A stored item cannot be read as an event, so it became FAILED. `reason` says what is wrong with the item."""

    def __init__(self, *, event_id: str, reason: str) -> None:
        self.event_id = event_id
        self.reason = reason
        super().__init__(
            f"the stored item {event_id!r} cannot be read as an event: {reason}; if somebody needs the event, fix the "
            "item, then call bus.retry_events; if nobody does, call bus.discard_events"
        )


class DeliveryError(OutboxError):
    """An attempt to deliver one event did not succeed. `event_type` is None if the type is not known."""

    def __init__(self, message: str, *, event_id: str, event_type: str | None = None) -> None:
        self.event_id = event_id
        self.event_type = event_type
        super().__init__(message)


class HandlerError(DeliveryError):
    """A handler raised an exception: it is the `__cause__`. `event` is the event as it is stored.

    `rejected` is true if the exception is a `Reject`, so that the event became FAILED.
    """

    def __init__(
        self, *, event: Event, handler: str, attempt: int, cause: BaseException, rejected: bool = False
    ) -> None:
        self.event = event
        self.handler = handler
        self.attempt = attempt
        self.rejected = rejected
        reason = getattr(cause, "reason", None) if rejected else None
        super().__init__(
            f"handler {handler!r} {'rejected' if rejected else 'failed on'} {event.type!r} event {event.id!r}, "
            f"attempt {attempt}: {reason if isinstance(reason, str) else describe(cause)}",
            event_id=event.id,
            event_type=event.type,
        )
        self.__cause__ = cause


class HandlerTimeoutError(DeliveryError):
    """A handler was cancelled at its time limit, after `seconds`. `timeout` is the handler's option, or None."""

    def __init__(self, *, event: Event, handler: str, seconds: float, timeout: float | None = None) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        self.timeout = timeout
        limit = (
            "because the lease of the event was about to end; make the handler quicker, or give it a longer timeout: "
            f"on({event.type!r}, timeout=...)"
            if timeout is None
            else f"because it reached its timeout of {timeout:g} s, or because the lease could not be renewed"
        )
        super().__init__(
            f"handler {handler!r} was cancelled after {seconds:.3g} s on {event.type!r} event {event.id!r}, {limit}",
            event_id=event.id,
            event_type=event.type,
        )


class TargetError(OutboxError):
    """A publisher could not hand an event to its `target`, which refused the event or did not answer.

    The event is retried. `verify` raises the error, too, if the target cannot be checked. `code` and `reason` are those
    of the target or of the AWS SDK. `maybe_sent` is true if the target did not answer, so that the event may arrive
    twice.
    """

    def __init__(
        self, *, target: str, code: str, reason: str, maybe_sent: bool = False, in_verify: bool = False
    ) -> None:
        self.target = target
        self.code = code
        self.reason = reason
        self.maybe_sent = maybe_sent
        sent = " (the event may have been sent)" if maybe_sent else ""
        failure = "could not be checked" if in_verify else f"did not accept the event{sent}"
        super().__init__(f"{target} {failure}: {code}: {reason}")


class HandlerStuckError(DeliveryError):
    """A handler did not end within `seconds` of its cancellation. The worker goes on, and the handler may still run."""

    def __init__(self, *, event: Event, handler: str, seconds: float) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        super().__init__(
            f"handler {handler!r} of {event.type!r} event {event.id!r} did not end within {seconds:g} s of its "
            "cancellation, and the worker went on without it; the handler must re-raise asyncio.CancelledError",
            event_id=event.id,
            event_type=event.type,
        )


class LoopBlockedError(DeliveryError):
    """A handler blocked the event loop for `seconds`. Leases may have run out in that time."""

    def __init__(self, *, event: Event, handler: str, seconds: float) -> None:
        self.event = event
        self.handler = handler
        self.seconds = seconds
        super().__init__(
            f"handler {handler!r} blocked the event loop for {seconds:.3g} s on {event.type!r} event {event.id!r}, so "
            "nothing else ran, not even the renewal of leases; run blocking code in a thread, with "
            "anyio.to_thread.run_sync",
            event_id=event.id,
            event_type=event.type,
        )


class NoHandlerError(DeliveryError):
    """This process has no handler for the type. The event is released to other workers, without an attempt.

    The error is reported once for each type. `fails_after` is the outbox's `unhandled_timeout` in seconds, or None. If
    the event became FAILED, `seconds` says for how long no worker had a handler.
    """

    def __init__(
        self, *, event_id: str, event_type: str, seconds: float | None = None, fails_after: float | None = None
    ) -> None:
        self.seconds = seconds
        self.fails_after = fails_after
        end = "" if fails_after is None else f"; after {fails_after:g} s without a handler the event becomes FAILED"
        became = (
            "the event was released to other workers, without an attempt; register a handler with "
            f"@bus.on({event_type!r}), unless another service or a newer release handles the type{end}"
            if seconds is None
            else f"no worker had a handler for {seconds:.0f} s; start a worker with @bus.on({event_type!r}), then call "
            f"bus.retry_events([{event_id!r}])"
        )
        super().__init__(
            f"no handler for the event type {event_type!r} (event {event_id!r}): {became}",
            event_id=event_id,
            event_type=event_type,
        )


class InvalidPayloadError(DeliveryError):
    """A stored payload is not valid for the class of a handler, so the event became FAILED without a retry.

    `path` is the place of the value, such as `payload.lines[3].price`; `reason` says what is wrong with the value.
    `payload_class` is the name of the class.
    """

    def __init__(self, *, event_id: str, event_type: str, payload_class: str, path: str, reason: str) -> None:
        self.payload_class = payload_class
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path} of {event_type!r} event {event_id!r} is not valid for {payload_class}: {reason}; correct the "
            f"class, then call bus.retry_events([{event_id!r}]), or replace the event with bus.replace_event",
            event_id=event_id,
            event_type=event_type,
        )


class UnknownVersionError(DeliveryError):
    """The payload of an event has a newer version than the class of a handler. The event is released to other workers.

    No attempt is counted. The error is reported once for each type and version. `known` is the version of the class.
    If the event became FAILED after the outbox's `unhandled_timeout`, `seconds` says for how long no worker knew the
    version.
    """

    def __init__(
        self, *, event_id: str, event_type: str, version: int, known: int, seconds: float | None = None
    ) -> None:
        self.version = version
        self.known = known
        self.seconds = seconds
        became = (
            "the event was released to other workers, without an attempt, as in a deployment that is under way"
            if seconds is None
            else f"no worker knew the version for {seconds:.0f} s; start a worker that does, then call "
            f"bus.retry_events([{event_id!r}])"
        )
        super().__init__(
            f"{event_type!r} event {event_id!r} has version {version}, but the class here has version {known}: "
            f"{became}",
            event_id=event_id,
            event_type=event_type,
        )


class LeaseLostError(DeliveryError):
    """A write was refused, because this worker does not hold the event any more.

    The lease ran out and another worker claimed the event, or the item was deleted. The handlers of this claim did
    run, so the event may be handled twice. `outcome` is complete, retry, fail, release, or the name of another write.
    """

    def __init__(self, *, event_id: str, event_type: str, outcome: str) -> None:
        self.outcome = outcome
        super().__init__(
            f"the write {outcome!r} of {event_type!r} event {event_id!r} was refused: the lease ran out and another "
            "worker claimed the event, or the item was deleted; if the handler is slow, give it a timeout with "
            f"on({event_type!r}, timeout=...), or raise processing_timeout",
            event_id=event_id,
            event_type=event_type,
        )


class SettleError(OutboxError):
    """An outcome could not be written, or it is not known whether it is written.

    The event stays PROCESSING until its lease ends, and is then recovered, unless it has ended.
    """

    def __init__(self, *, event_id: str, outcome: str, cause: BaseException) -> None:
        self.event_id = event_id
        self.outcome = outcome
        again = "the event is delivered again when its lease ends"
        if getattr(cause, "maybe_applied", False):
            told = f"it is not known whether the outcome {outcome!r} of event {event_id!r} is written; if not, {again}"
        else:
            told = f"the outcome {outcome!r} of event {event_id!r} could not be written, so {again}"
        super().__init__(f"{told}: {cause}")
        self.__cause__ = cause


class RecoveryError(OutboxError):
    """An event whose lease ran out could not be recovered. The worker tries again later.

    If `is_window` is true, `event_id` is the id of a window item, which leads to events that were claimed on emit. For
    an event with an ordering key, it is the id of the queue of the key.
    """

    def __init__(self, *, event_id: str, cause: BaseException, is_window: bool = False) -> None:
        self.event_id = event_id
        self.is_window = is_window
        what = "window" if is_window else "event"
        or_delete = ", but do not delete it, because its events could not be found" if is_window else " or delete it"
        super().__init__(
            f"the lease of {what} {event_id!r} ran out, and the {what} could not be recovered: {cause}; the worker "
            f"tries again later. If it fails again, fix the item{or_delete}"
        )
        self.__cause__ = cause


class WindowLostError(OutboxError):
    """This worker could not renew its window in time, so it cancelled the handlers of the `events` in the window.

    Other workers recover these events, which may be handled twice.
    """

    def __init__(self, *, window: str, events: int, table_name: str) -> None:
        self.window = window
        self.events = events
        self.table_name = table_name
        effect = "but none of its events was open"
        if events:
            effect = f"so the handlers of its events ({events}) were cancelled; other workers recover the events"
        super().__init__(
            f"the window {window!r} of table {table_name!r} was not renewed before its lease ended, {effect}. Look for "
            "a blocked event loop, a process that was stopped for seconds, or a wrong clock"
        )


class PollingError(OutboxError):
    """A poll failed. The worker tries again after `retry_in` seconds.

    `loop` is polling, recovery or renewal; `errors` counts the failures in a row.
    """

    def __init__(self, *, loop: str, errors: int, retry_in: float, cause: BaseException) -> None:
        self.loop = loop
        self.errors = errors
        self.retry_in = retry_in
        super().__init__(
            f"{loop} failed, the next try is in {retry_in:.3g} s (failures in a row: {errors}): {describe(cause)}"
        )
        self.__cause__ = cause


class WorkerError(OutboxError):
    """An unexpected exception in the worker, in the part named `loop`. The worker goes on, unless `ended` is true."""

    def __init__(self, *, loop: str, cause: BaseException, ended: bool = False) -> None:
        self.loop = loop
        self.ended = ended
        then = "the worker has ended; await bus.start() starts another" if ended else "the worker goes on"
        super().__init__(f"unexpected error in {loop}; {then}: {describe(cause)}")
        self.__cause__ = cause
