"""The arguments of an emit: the event, and the options of its storage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

from dynamodb_outbox.errors import ConfigurationError, InvalidEventError
from dynamodb_outbox.event import Event
from dynamodb_outbox.outcome import LONGEST_DELAY
from dynamodb_outbox.typed.stored_form import to_stored
from dynamodb_outbox.validation import check_seconds
from dynamodb_outbox.wording import shape, shown

IfExists = Literal["raise", "ignore"]
"""Whether an emit raises, or changes nothing, if the id of its event is stored already."""

_IF_EXISTS: Final = get_args(IfExists)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitOptions:
    """The options of one emit. Raises `ConfigurationError` for a bad value."""

    delay: float | None = None
    deliver_at: datetime | None = None
    if_exists: IfExists = "raise"

    def __post_init__(self) -> None:
        if self.delay is not None and self.deliver_at is not None:
            raise ConfigurationError("delay and deliver_at both set the time of delivery; give one of them")
        if self.delay is not None:
            check_seconds("delay", self.delay, 0, LONGEST_DELAY)
        if self.deliver_at is not None and (
            not isinstance(self.deliver_at, datetime) or self.deliver_at.tzinfo is None
        ):
            given = self.deliver_at if isinstance(self.deliver_at, (datetime, int, float)) else shape(self.deliver_at)
            raise ConfigurationError(
                f"deliver_at={given}: it must be a datetime with a time zone, such as "
                "datetime.now(UTC) + timedelta(days=1)"
            )
        if self.if_exists not in _IF_EXISTS:
            raise ConfigurationError(f"if_exists={shown(self.if_exists)}: it must be 'raise' or 'ignore'")

    def refuse_for(self, events: Iterable[Event]) -> None:
        """Raise `ConfigurationError` for events that cannot have these options: the ones with an ordering key."""
        if self.delay is None and self.deliver_at is None:
            return
        for event in events:
            if event.ordering_key is not None:
                raise ConfigurationError(
                    f"event {event.id!r} has the ordering key {shown(event.ordering_key)} and a delay: later events of "
                    "the key would wait for it; leave out delay and deliver_at, or the ordering key"
                )

    def refuse_in_transaction(self) -> None:
        """Raise `ConfigurationError` for options that an event of a transaction cannot have."""
        if self.if_exists != "raise":
            raise ConfigurationError(
                f"if_exists={shown(self.if_exists)}: a transaction stores all or nothing; catch the "
                "DuplicateEventError that its commit raises"
            )

    def due_at(self, now: float) -> float | None:
        """Return when the events are due (epoch seconds), or None for now."""
        if self.deliver_at is not None:
            due_at = max(self.deliver_at.timestamp(), now)
            if due_at > now + LONGEST_DELAY:
                raise ConfigurationError(f"deliver_at={self.deliver_at}: it is more than ten years ahead")
            return due_at
        return None if self.delay is None else now + self.delay


def event_of(
    type_or_event: Any,
    payload: Any = None,
    *,
    id: str | None = None,
    occurred_at: datetime | None = None,
    metadata: dict[str, Any] | None = None,
    ordering_key: str | None = None,
) -> Event:
    """Make the event of an emit: of an `Event`, a type and a payload, or an instance of a registered class.

    Raises `InvalidEventError` for an `Event` together with a payload or other fields.
    """
    if not isinstance(type_or_event, (Event, str)):
        type_or_event, payload, metadata = to_stored(type_or_event, payload, metadata)
    given: dict[str, Any] = {}
    if id is not None:
        given["id"] = id
    if occurred_at is not None:
        given["occurred_at"] = occurred_at
    if metadata is not None:
        given["metadata"] = metadata
    if ordering_key is not None:
        given["ordering_key"] = ordering_key
    if not isinstance(type_or_event, Event):
        return Event(type_or_event, payload, **given)
    if payload is not None or given:
        raise InvalidEventError(
            "emit takes an Event, or a type with payload, id, occurred_at, metadata and ordering_key, not both"
        )
    return type_or_event
