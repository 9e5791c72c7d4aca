"""The errors of wrong values, wrong calls, and waits that time out."""

from __future__ import annotations

from collections.abc import Mapping

from dynamodb_outbox.event import Event, EventStatus
from dynamodb_outbox.event_errors import OutboxError


class ConfigurationError(OutboxError):
    """An option or an argument has a value that cannot work. Nothing was sent."""


class UsageError(OutboxError):
    """A call came at the wrong time or in the wrong place.

    For example: `bus.start()` twice, `bus.drain()` inside a handler, `tx.put()` after the end of its block, or a call
    from another event loop or thread.
    """


class DuplicateHandlerError(ConfigurationError):
    """A second handler of the same name for the same event type.

    When some handlers of an event succeed and others fail, the outbox stores the names of the successful handlers.
    Therefore each name must be unique for its type.
    """

    def __init__(self, *, event_type: str, name: str) -> None:
        self.event_type = event_type
        self.name = name
        super().__init__(
            f"event type {event_type!r} already has a handler named {name!r}; "
            f"register the second handler with another name: on({event_type!r}, handler, name=...)"
        )


class MiddlewareError(OutboxError):
    """A middleware broke a rule of its chain. `middleware` is its module and qualified name.

    A middleware calls `call_next` at most once, with an `Event`, and awaits the call before it returns. A middleware
    around handlers keeps the type and id of the event. If an emit raises this error, nothing was stored. If a handler's
    chain raises this error, the attempt has failed.
    """

    def __init__(self, what: str, *, middleware: str, event: Event) -> None:
        self.middleware = middleware
        self.event = event
        self.event_id = event.id
        self.event_type = event.type
        super().__init__(f"middleware {middleware!r} {what} ({event.type!r} event {event.id!r})")


class RepairRefusedError(OutboxError):
    """An event was not replaced, because it is not FAILED, PENDING, HELD or QUEUED. Nothing was changed.

    `status` is the status that it has, None if there is no such event. `replaced_by` is the id of the event that it was
    replaced by before.
    """

    def __init__(self, *, event_id: str, status: EventStatus | None, replaced_by: str | None = None) -> None:
        self.event_id = event_id
        self.status = status
        self.replaced_by = replaced_by
        now = "there is no such event" if status is None else f"it is {status.value}"
        before = "" if replaced_by is None else f", and replaced by event {replaced_by!r}"
        then = "; wait until its worker is done, and look again" if status is EventStatus.PROCESSING else ""
        super().__init__(
            f"event {event_id!r} was not replaced: {now}{before}{then}. Only FAILED, PENDING, HELD and QUEUED "
            "events can be replaced"
        )


class WaitTimeoutError(OutboxError, TimeoutError):
    """`wait_for` or `drain` reached its timeout. After `drain`, `left` counts the unfinished events by status."""

    def __init__(self, message: str, *, left: Mapping[str, int] | None = None) -> None:
        self.left = dict(left or {})
        super().__init__(message)
