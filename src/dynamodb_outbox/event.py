"""Events: what is emitted, stored and handled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic
from weakref import WeakValueDictionary

from dynamodb_outbox.event_errors import UnstorableValueError
from dynamodb_outbox.event_ids import IdNumber, NewId, event_ids
from dynamodb_outbox.wording import shape


class EventStatus(StrEnum):
    """The status of a stored event. A HELD event waits for a resume; a DISCARDED one is never delivered.

    An event with an ordering key is QUEUED until it is COMPLETED, FAILED or DISCARDED. What becomes of it meanwhile is
    stored with the queue of its key.
    """

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    HELD = "HELD"
    DISCARDED = "DISCARDED"
    QUEUED = "QUEUED"


class _Mark:
    """Says whether an id that this process made was ever sent, and its number. All events with the id share it."""

    __slots__ = ("__weakref__", "number", "unsent")

    def __init__(self, number: IdNumber | None) -> None:
        self.unsent = True
        self.number = number


# One mapping for the process, so that copies of an event share their mark. A mark that no event has is collected.
_marks: WeakValueDictionary[str, _Mark] = WeakValueDictionary()


def _utc_now() -> datetime:
    return datetime.now(UTC)


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # A bare `Event` is an `Event[Any]`, because of the default.
    Payload_co = TypeVar("Payload_co", default=Any, covariant=True)

    class _Parametrised(Generic[Payload_co]): ...
else:
    Payload_co = Any

    class _Parametrised:
        # Not `typing.Generic`: with slots, a call of `Event[X]` raises TypeError on Python 3.11 and 3.12.
        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)


@dataclass(frozen=True, slots=True)
class Event(_Parametrised[Payload_co]):
    """Something that happened. An event is delivered to every handler of its type.

    - `type` names what happened, such as `user.created`.
    - `payload` may hold str, int, float, bool, None, bytes, Decimal, dict with str keys, list, tuple, set of one kind,
      datetime, date, UUID, Enum and dataclasses. JSON-like values, bytes and sets come back equal, the others in
      their JSON form. A whole number comes back as int, any other number as float, or as Decimal with the outbox's
      `numbers="decimal"`. In a handler of a registered class, it is an instance of the class: `Event[OrderPlaced]`.
    - `id` identifies the event, 1 to 2,048 bytes. The default is a random UUID. With an id that you choose, an emit
      can be repeated safely.
    - `occurred_at` is a datetime with a time zone; it is kept in UTC, to the microsecond. The default is now.
    - `metadata` is a mapping that is stored and delivered with the payload. The default is empty.
    - `ordering_key`, 1 to 1,024 bytes, puts the event into the line of its key: the events of one key are handled one
      at a time, in the order of their emits. The default is None: in any order. A short key costs less: an event with
      a key of 36 bytes costs 6 write units, and one with a key of 1,024 bytes costs 16.

    The repr shows neither payload nor metadata. The handlers of one event get the same object: copy the payload before
    you change it.

    Raises `UnstorableValueError` for an empty type, id or ordering key, an id that is too long or begins with
    `dynamodb-outbox`, an ordering key that is too long, and a datetime without a time zone.
    """

    type: str
    payload: Payload_co = field(default=None, repr=False)  # type: ignore[assignment]  # an event without a payload has None
    id: str = field(default_factory=event_ids.new, kw_only=True)
    occurred_at: datetime = field(default_factory=_utc_now, kw_only=True)
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any], kw_only=True, repr=False)
    ordering_key: str | None = field(default=None, kw_only=True)
    _mark: _Mark | None = field(default=None, init=False, repr=False, compare=False)
    _already_stored: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.id) is NewId:
            mark = _Mark(self.id.number)
            object.__setattr__(self, "id", str(self.id))
            object.__setattr__(self, "_mark", _marks.setdefault(self.id, mark))
        elif isinstance(self.id, str):
            object.__setattr__(self, "_mark", _marks.get(self.id))
        _check_text("type", self.type)
        _check_text("id", self.id)
        if len(self.id.encode()) > MAX_ID_BYTES:
            raise UnstorableValueError(path="id", reason=f"a key may have {MAX_ID_BYTES:,} bytes at most")
        if self.id.startswith(RESERVED_IDS):
            reason = f"ids that begin with {RESERVED_IDS!r} are reserved for the library's own items; choose another id"
            raise UnstorableValueError(path="id", reason=reason, event_id=self.id)
        if not isinstance(self.occurred_at, datetime) or self.occurred_at.tzinfo is None:
            raise UnstorableValueError(
                path="occurred_at",
                reason=f"{_shown(self.occurred_at)} must be a datetime with a time zone, such as datetime.now(UTC)",
                event_id=self.id,
            )
        if self.occurred_at.tzinfo is not UTC:
            try:
                object.__setattr__(self, "occurred_at", self.occurred_at.astimezone(UTC))
            except OverflowError:
                reason = f"{self.occurred_at!r} is not in a year from 1 to 9999 of UTC"
                raise UnstorableValueError(path="occurred_at", reason=reason, event_id=self.id) from None
        if not isinstance(self.metadata, Mapping):
            raise UnstorableValueError(path="metadata", reason="it must be a mapping", event_id=self.id)
        if self.ordering_key is not None:
            _check_ordering_key(self.ordering_key, self.id)

    def __repr__(self) -> str:
        key = "" if self.ordering_key is None else f", ordering_key={self.ordering_key!r}"
        already_stored = ", already_stored=True" if self._already_stored else ""
        return (
            f"{type(self).__qualname__}(type={self.type!r}, id={self.id!r}, occurred_at={self.occurred_at!r}"
            f"{key}{already_stored})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # The copy may be emitted by another process: from now on, every write of the id is conditional.
        self.take_unpublished()
        return _restore, (self.type, self.payload, self.id, self.occurred_at, self.metadata, self.ordering_key)

    @property
    def already_stored(self) -> bool:
        """Whether an emit with `if_exists="ignore"` found the id stored, and returned the stored event."""
        return self._already_stored

    def as_already_stored(self) -> Event[Payload_co]:
        """Copy the event, and mark the copy as `already_stored`."""
        copy = _restore(self.type, self.payload, self.id, self.occurred_at, self.metadata, self.ordering_key)
        object.__setattr__(copy, "_already_stored", True)
        return copy

    @property
    def has_made_id(self) -> bool:
        """Whether this process made the id, and not the user."""
        return self._mark is not None

    @property
    def id_number(self) -> IdNumber | None:
        """The number of the id, if this process made it under a seed. Adapters find the event by it after a crash."""
        return None if self._mark is None else self._mark.number

    def take_unpublished(self) -> bool:
        """Return true if the id cannot be stored yet, because this process made the id and never sent it.

        The write of such an id needs no condition. The second call returns false, also for copies of the event.
        """
        mark = self._mark
        if mark is None or not mark.unsent:
            return False
        mark.unsent = False
        return True


MAX_ID_BYTES = 2048
"""DynamoDB's limit for a partition key value."""
MAX_ORDERING_KEY_BYTES = 1024
"""The id of a queue is its key with a prefix, and has to be short, since every write of the queue pays for it."""
RESERVED_IDS = "dynamodb-outbox"
"""The prefix of the ids of items that are not events, such as the item in which workers announce themselves."""
RESERVED_QUEUE_IDS = f"{RESERVED_IDS}-key/"
"""The prefix of the ids of queues, which is followed by the ordering key."""


def may_be_id(text: str) -> bool:
    """Tell whether a text can be the id of a stored event."""
    return bool(text) and not text.startswith(RESERVED_IDS) and len(text.encode(errors="replace")) <= MAX_ID_BYTES


def _restore(  # noqa: PLR0917 - pickle passes positions
    type: str, payload: Any, id: str, occurred_at: datetime, metadata: Mapping[str, Any], ordering_key: str | None
) -> Event:
    return Event(type, payload, id=id, occurred_at=occurred_at, metadata=metadata, ordering_key=ordering_key)


def with_metadata(event: Event, metadata: Mapping[str, Any]) -> Event:
    """Copy an event, with other metadata. Nothing of the event is checked again, so that a copy costs little."""
    if type(event) is not Event:
        return replace(event, metadata=metadata)
    return _copy_of(event, event.payload, metadata)


def with_payload(event: Event, payload: Any) -> Event:
    """Copy an event, with another payload; see `with_metadata`."""
    if type(event) is not Event:
        return replace(event, payload=payload)
    return _copy_of(event, payload, event.metadata)


def _copy_of(event: Event, payload: Any, metadata: Mapping[str, Any]) -> Event:
    copy = object.__new__(Event)
    write = object.__setattr__
    write(copy, "type", event.type)
    write(copy, "payload", payload)
    write(copy, "id", event.id)
    write(copy, "occurred_at", event.occurred_at)
    write(copy, "metadata", metadata)
    write(copy, "ordering_key", event.ordering_key)
    write(copy, "_mark", event._mark)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of the same id
    write(copy, "_already_stored", False)  # noqa: FBT003 - a value, not an option
    return copy


def _shown(value: object) -> str:
    # Show only the type of other values: the caller may have passed a confidential payload in the wrong place.
    return repr(value) if value == "" or isinstance(value, datetime) else shape(value)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise UnstorableValueError(path=name, reason=f"{_shown(value)} must be a string that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnstorableValueError(path=name, reason=f"it is not valid Unicode text: {error}") from error


def _check_ordering_key(key: object, event_id: str) -> None:
    path = "ordering_key"
    if not isinstance(key, str) or not key:
        reason = f"{_shown(key)} must be a string that is not empty; leave it out for an event in any order"
        raise UnstorableValueError(path=path, reason=reason, event_id=event_id)
    _check_text(path, key)
    if len(key.encode()) > MAX_ORDERING_KEY_BYTES:
        reason = f"a key may have {MAX_ORDERING_KEY_BYTES:,} bytes at most; use a hash of a long one"
        raise UnstorableValueError(path=path, reason=reason, event_id=event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """A dead letter: an event that is FAILED, and the reason.

    `retry_count` counts the retries before the event failed. `last_error` is the text of the last error, `error_type`
    the name of its class, and `error_handler` the handler that raised it, if they are known. `failed_at` is the time of
    the failure in UTC. `handled_by` has the names of the handlers that succeeded. If another program stored a time that
    a datetime cannot hold, `failed_at` is the nearest possible time, and `last_error` says so. `blocks_key` tells
    whether later events of its `ordering_key` wait for it.
    """

    id: str
    type: str
    payload: Any = field(repr=False)
    occurred_at: datetime
    metadata: Mapping[str, Any] = field(repr=False)
    retry_count: int
    last_error: str
    failed_at: datetime
    handled_by: frozenset[str]
    error_type: str | None = None
    error_handler: str | None = None
    ordering_key: str | None = None
    blocks_key: bool = False
