"""The payload of one event as instances of the classes that its handlers are registered with."""

from __future__ import annotations

from typing import Any

from dynamodb_outbox.errors import InvalidPayloadError, UnknownVersionError
from dynamodb_outbox.event import Event, with_payload
from dynamodb_outbox.handlers import Registration
from dynamodb_outbox.typed.event_types import EventType
from dynamodb_outbox.typed.stored_form import from_stored


class TypedPayloads:
    """Validates the payload once for each class; the handlers of a class share the instance, as others share the dict.

    A middleware may pass on another event to one handler. Its payload is validated for this handler alone.
    """

    __slots__ = ("_events", "_stored", "unknown_version")

    def __init__(self, stored: Event) -> None:
        self._stored = stored
        self._events: dict[EventType[Any], Event | InvalidPayloadError] = {}
        self.unknown_version: UnknownVersionError | None = None

    def typed(self, event: Event, registration: Registration) -> Event | None:
        """Return the event as a handler gets it; None if the class does not know the version of the payload yet.

        Raises `InvalidPayloadError`.
        """
        event_type = registration.classes.get(event.type)
        if event_type is None:
            return event
        if event is not self._stored:
            found = self._read(event, event_type)
        elif (known := self._events.get(event_type)) is not None:
            found = known
        else:
            found = self._read(event, event_type)
            if found is not None:
                self._events[event_type] = found
        if isinstance(found, InvalidPayloadError):
            raise found
        return found

    def _read(self, event: Event, event_type: EventType[Any]) -> Event | InvalidPayloadError | None:
        try:
            return with_payload(event, from_stored(event, event_type))
        except InvalidPayloadError as error:
            return error
        except UnknownVersionError as error:
            self.unknown_version = error
            return None
