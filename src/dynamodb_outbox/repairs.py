"""What an operator does to the events in an outbox: which events are meant, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from dynamodb_outbox.event import EventStatus
from dynamodb_outbox.typed.event_types import TypeOrClass, selected_type

DISCARDABLE: Final = (EventStatus.FAILED, EventStatus.PENDING, EventStatus.HELD, EventStatus.QUEUED)
"""The statuses in which an event can be discarded or replaced: no worker holds it."""

MOST_RETRIES: Final = 100
"""The most that a `max_retries` can be. Who recovers events and does not know their handlers counts up to it: the next
worker that claims an event without a retry left makes it FAILED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedSelector:
    """Dead letters that a repair is for: those that failed up to `before`, and match every other field that is set.

    `before` defaults to the time of the call, so that a bulk retry never meets its own failures. `type` is the name of
    a type, its class, or an `EventType`. Raises `ConfigurationError` for anything else.
    """

    type: TypeOrClass | None = None
    error_type: str | None = None
    error_handler: str | None = None
    before: datetime | None = None

    def __post_init__(self) -> None:
        selected_type(self.type)

    @property
    def type_name(self) -> str | None:
        """The name of the type; None for all types."""
        return selected_type(self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The result of a repair. It counts as true if an event was changed.

    `done` has the ids of the events that were changed. `refused` has, for each other event that was named, the status
    that it has now; None if there is no such event. With a selector, events that changed meanwhile are refused.
    """

    done: tuple[str, ...] = ()
    refused: Mapping[str, EventStatus | None] = field(default_factory=dict[str, EventStatus | None])

    def __bool__(self) -> bool:
        return bool(self.done)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """An order to all workers of a table not to start events: of one `type`, or of all types if it is None.

    It ends by `resume`, or at `until`.
    """

    type: str | None
    reason: str
    by: str
    since: datetime
    until: datetime | None = None


def in_order(holds: Iterable[Hold]) -> list[Hold]:
    """Sort holds by their type, that of all types first."""
    return sorted(holds, key=lambda hold: hold.type or "")
