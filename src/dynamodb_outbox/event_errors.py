"""The errors of an event that cannot be stored, and the bases of all errors. They know nothing of `Event`.

`dynamodb_outbox.errors` has these errors, too; the other errors are there, and may carry an `Event`.
"""

from __future__ import annotations


class OutboxError(Exception):
    """The base of every error that this library raises or reports."""


class PublishError(OutboxError):
    """An emit or a transaction did not store all its events, because of the events or of the user's writes.

    An emit that DynamoDB refuses or does not answer raises a `StorageError` instead, as every other call does. To catch
    each failed emit, write `except (PublishError, StorageError)`.
    """


class InvalidEventError(PublishError):
    """An event that cannot be stored, or an emit with wrong arguments. Nothing was sent."""


class UnstorableValueError(InvalidEventError):
    """A value that DynamoDB cannot hold, or that would come back as another value.

    `path` is the place of the value, such as `payload.lines[3].price`; `reason` says what is wrong with the value.
    """

    def __init__(self, *, path: str, reason: str, event_id: str | None = None) -> None:
        self.path = path
        self.reason = reason
        self.event_id = event_id
        of = f" of event {event_id!r}" if event_id is not None else ""
        super().__init__(f"{path}{of} cannot be stored: {reason}")


class UnregisteredClassError(UnstorableValueError):
    """An emit got an instance of `payload_class`, which is not registered as an event type."""

    def __init__(self, *, payload_class: type) -> None:
        self.payload_class = payload_class
        name = payload_class.__qualname__.replace("<locals>.", "")
        super().__init__(
            path="type",
            reason=f"{name} is not registered as an event type; decorate the class with "
            '@event_type("order.placed"), or emit EventType("order.placed", ...) and the instance. A subclass of a '
            "registered class needs its own registration",
        )


class EventTooLargeError(InvalidEventError):
    """An event that does not fit into one DynamoDB item. `size` and `limit` are in bytes."""

    def __init__(self, *, event_id: str, size: int, limit: int) -> None:
        self.event_id = event_id
        self.size = size
        self.limit = limit
        super().__init__(
            f"event {event_id!r} takes {size:,} bytes, but the limit is {limit:,} (a DynamoDB item has 409,600 bytes, "
            "and delivery needs some of them); store the payload elsewhere, such as in S3, and emit a reference to it"
        )
