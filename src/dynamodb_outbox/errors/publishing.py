"""Errors of storing events: what is refused before it is sent, and what could not be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dynamodb_outbox.errors.usage import OutboxError

if TYPE_CHECKING:
    from dynamodb_outbox.event import Event


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
