"""Every error of the library, in one tree.

OutboxError
├── ConfigurationError             a parameter or a call that cannot work
│   └── DuplicateHandlerError      two handlers of one name on one event type
├── InvalidEventError              an event that cannot be stored; nothing was sent
│   ├── UnstorableValueError       a value DynamoDB cannot hold, with its path
│   └── EventTooLargeError         more than an item may hold
├── PublishError
│   ├── DuplicateEventError        an event of that id is stored already
│   └── PartialPublishError        some events are stored, others are not
├── StorageError                   the engine refused or could not be reached
│   ├── TableNotFoundError
│   ├── IndexNotFoundError
│   ├── TableMismatchError         the table is not the one this library needs
│   ├── CredentialsError           missing, expired or insufficient credentials
│   ├── ThrottledError
│   ├── UnavailableError           not reached, or no trustworthy reply
│   └── ClientClosedError          closed, or bound to another event loop
├── StoredEventError               a stored item that is no event of ours
├── DeliveryError
│   ├── HandlerError               a handler raised
│   ├── HandlerTimeoutError        a handler ran into its time limit
│   ├── NoHandlerError             nobody handles the type
│   ├── LeaseExpiredError          a claim was never settled in its lease
│   └── LeaseLostError             a settle was refused: the claim is not ours any more
├── SettleError                    an outcome could not be written; recovery takes the event up
├── PollingError                   looking for events failed; the worker goes on
├── WorkerError                    something unforeseen in the worker
└── WaitTimeoutError               `wait_for` or `drain` ran out of time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamodb_outbox.event import Event


class OutboxError(Exception):
    """Base of everything this library raises or reports."""


class ConfigurationError(OutboxError):
    """A parameter or a call that cannot work, found before anything was sent."""


class DuplicateHandlerError(ConfigurationError):
    """A second handler of the same name on the same event type.

    The name is what the outbox remembers of a partial success, so it must be unique per type.
    """

    def __init__(self, *, event_type: str, name: str) -> None:
        self.event_type = event_type
        self.name = name
        super().__init__(
            f"event type {event_type!r} already has a handler named {name!r}; "
            f"register the second one with another name: on({event_type!r}, handler, name=...)"
        )


class InvalidEventError(OutboxError):
    """An event that cannot be stored. Nothing was sent."""


class UnstorableValueError(InvalidEventError):
    """A value that DynamoDB cannot hold, or that would not come back as it was.

    `path` leads to it from the event, such as `payload.lines[3].price`.
    """

    def __init__(self, *, path: str, reason: str, event_id: str | None = None) -> None:
        self.path = path
        self.reason = reason
        self.event_id = event_id
        of = f" of event {event_id!r}" if event_id is not None else ""
        super().__init__(f"{path}{of} cannot be stored: {reason}")


class EventTooLargeError(InvalidEventError):
    """An event that does not fit into one DynamoDB item. Sizes are in bytes."""

    def __init__(self, *, event_id: str, size: int, limit: int) -> None:
        self.event_id = event_id
        self.size = size
        self.limit = limit
        super().__init__(
            f"event {event_id!r} takes {size:,} bytes, the limit is {limit:,} (a DynamoDB item of 409,600 less "
            "the room that delivery needs); store the bulk elsewhere, in S3 for example, and emit a reference"
        )


class PublishError(OutboxError):
    """An emit that did not do all it was asked."""


class DuplicateEventError(PublishError):
    """An event of the same id is stored already, and was left as it is."""

    def __init__(self, *, event_id: str) -> None:
        self.event_id = event_id
        super().__init__(
            f"an event with the id {event_id!r} is stored already; if this is a repeated emit, it is safe to go on"
        )


class PartialPublishError(PublishError):
    """Some events of an `emit_many` could not be stored.

    `published` are stored and will be delivered. `failed` are not known to be stored; `causes` says why,
    by event id. Emit the failed ones again: one that was stored after all is then refused as a duplicate,
    never stored twice.
    """

    def __init__(
        self, *, published: Sequence[Event], failed: Sequence[Event], causes: Mapping[str, OutboxError]
    ) -> None:
        self.published = list(published)
        self.failed = list(failed)
        self.causes = dict(causes)
        first = next(iter(self.causes.values()), None)
        super().__init__(
            f"{len(self.published)} of {len(self.published) + len(self.failed)} events are stored, "
            f"{len(self.failed)} are not (see .failed and .causes); emit_many(error.failed) is safe. "
            f"First cause: {first}"
        )


class StorageError(OutboxError):
    """DynamoDB refused a request, or could not be reached."""


class TableNotFoundError(StorageError):
    """The table does not exist in this account, region and endpoint."""

    def __init__(self, *, table_name: str) -> None:
        self.table_name = table_name
        super().__init__(
            f"the table {table_name!r} does not exist here; check the name, the region and the endpoint, or create it "
            "with `await outbox.create_table()` (development) or with the templates (production)"
        )


class IndexNotFoundError(StorageError):
    """The table has no status index of the configured name."""

    def __init__(self, *, table_name: str, index_name: str) -> None:
        self.table_name = table_name
        self.index_name = index_name
        super().__init__(
            f"the table {table_name!r} has no index {index_name!r}, so no event can be found; "
            "`await outbox.verify_table()` lists what is to be changed"
        )


class TableMismatchError(StorageError):
    """The table exists and is not what the outbox needs; `differences` lists every one."""

    def __init__(self, *, table_name: str, differences: Sequence[str]) -> None:
        self.table_name = table_name
        self.differences = list(differences)
        lines = "".join(f"\n  - {difference}" for difference in self.differences)
        super().__init__(
            f"the table {table_name!r} does not fit the outbox:{lines}\n"
            "Use another table_name, or change the table with the templates of this library"
        )


class CredentialsError(StorageError):
    """Credentials are missing, expired, or do not allow the call."""

    def __init__(self, *, operation: str, reason: str) -> None:
        self.operation = operation
        self.reason = reason
        super().__init__(
            f"{operation} was not allowed: {reason}; check the credentials, and that the role has the permissions "
            "of the library's IAM policy template"
        )


class ThrottledError(StorageError):
    """DynamoDB kept throttling until the deadline of the call."""

    def __init__(self, *, operation: str, attempts: int, reason: str) -> None:
        self.operation = operation
        self.attempts = attempts
        super().__init__(
            f"{operation} was throttled {attempts} times, until its deadline: {reason}; check the table's capacity "
            "and, beyond about 500 events a second, its shards"
        )


class UnavailableError(StorageError):
    """DynamoDB was not reached, or its reply cannot be trusted, until the deadline of the call.

    `maybe_applied` is true when one of the attempts may have been carried out all the same.
    """

    def __init__(self, *, operation: str, attempts: int, reason: str, maybe_applied: bool) -> None:
        self.operation = operation
        self.attempts = attempts
        self.maybe_applied = maybe_applied
        applied = "it may have been applied all the same" if maybe_applied else "it was not applied"
        super().__init__(
            f"{operation} failed {attempts} times ({applied}): {reason}; check the endpoint, the network and the region"
        )


class ClientClosedError(StorageError):
    """The client was closed, or belongs to another event loop."""

    def __init__(self, *, operation: str, reason: str) -> None:
        self.operation = operation
        super().__init__(
            f"{operation} needs an open client of this event loop ({reason}); create the client with `async with` "
            "around everything that uses the outbox, in the loop that uses it, and stop the bus before it ends"
        )


class StoredEventError(OutboxError):
    """A stored item that cannot be read as an event: it was set aside as FAILED."""

    def __init__(self, *, event_id: str, reason: str) -> None:
        self.event_id = event_id
        self.reason = reason
        super().__init__(
            f"the stored item {event_id!r} is no readable event: {reason}; mend the item, "
            "then redrive it with retry_events"
        )


class DeliveryError(OutboxError):
    """An attempt to deliver one event did not succeed."""

    def __init__(self, message: str, *, event_id: str, event_type: str | None = None) -> None:
        self.event_id = event_id
        self.event_type = event_type
        super().__init__(message)


class HandlerError(DeliveryError):
    """A handler raised. The exception is the `__cause__`."""

    def __init__(self, *, event_id: str, event_type: str, handler: str, attempt: int, cause: BaseException) -> None:
        self.handler = handler
        self.attempt = attempt
        super().__init__(
            f"handler {handler!r} failed on {event_type!r} event {event_id!r}, attempt {attempt}: "
            f"{type(cause).__name__}: {cause}",
            event_id=event_id,
            event_type=event_type,
        )
        self.__cause__ = cause


class HandlerTimeoutError(DeliveryError):
    """A handler ran into its time limit and was cancelled."""

    def __init__(self, *, event_id: str, event_type: str, handler: str, seconds: float) -> None:
        self.handler = handler
        self.seconds = seconds
        super().__init__(
            f"handler {handler!r} was cancelled after {seconds:.3g} s on {event_type!r} event {event_id!r}, before its "
            "lease could end; make it quicker, or raise processing_timeout",
            event_id=event_id,
            event_type=event_type,
        )


class NoHandlerError(DeliveryError):
    """No handler is registered for the type. The event is retried, so that a deploy can bring one."""

    def __init__(self, *, event_id: str, event_type: str) -> None:
        super().__init__(
            f"no handler for the event type {event_type!r} (event {event_id!r}); register one with "
            f"@bus.on({event_type!r}), or give workers of different handlers different tables",
            event_id=event_id,
            event_type=event_type,
        )


class LeaseLostError(DeliveryError):
    """An outcome was refused because the claim is not ours any more.

    The lease ran out and another worker claimed the event, or the item was deleted. The handlers of this
    claim did run, so the event may be handled twice.
    """

    def __init__(self, *, event_id: str, event_type: str, outcome: str) -> None:
        self.outcome = outcome
        super().__init__(
            f"{outcome} of {event_type!r} event {event_id!r} was refused: its lease was lost to another worker, or the "
            "item is gone; if handlers are slow, raise processing_timeout",
            event_id=event_id,
            event_type=event_type,
        )


class SettleError(OutboxError):
    """An outcome could not be written. The event stays leased, and recovery takes it up afterwards."""

    def __init__(self, *, event_id: str, outcome: str, cause: BaseException) -> None:
        self.event_id = event_id
        self.outcome = outcome
        super().__init__(
            f"{outcome} of event {event_id!r} could not be written, it is delivered again when its lease ends: {cause}"
        )
        self.__cause__ = cause


class PollingError(OutboxError):
    """Looking for events failed. The worker tries again after `retry_in` seconds."""

    def __init__(self, *, loop: str, errors: int, retry_in: float, cause: BaseException) -> None:
        self.loop = loop
        self.errors = errors
        self.retry_in = retry_in
        super().__init__(
            f"{loop} failed ({errors} in a row), next try in {retry_in:.3g} s: {type(cause).__name__}: {cause}"
        )
        self.__cause__ = cause


class WorkerError(OutboxError):
    """Something unforeseen was raised in the worker. Unless `ended`, it goes on."""

    def __init__(self, *, loop: str, cause: BaseException, ended: bool = False) -> None:
        self.loop = loop
        self.ended = ended
        then = "the worker has ended, await bus.start() starts another" if ended else "the worker goes on"
        super().__init__(f"unforeseen in {loop}, {then}: {type(cause).__name__}: {cause}")
        self.__cause__ = cause


class WaitTimeoutError(OutboxError, TimeoutError):
    """`wait_for` or `drain` ran out of time. `left` counts what is unfinished, by status (`drain` only)."""

    def __init__(self, message: str, *, left: Mapping[str, int] | None = None) -> None:
        self.left = dict(left or {})
        super().__init__(message)
