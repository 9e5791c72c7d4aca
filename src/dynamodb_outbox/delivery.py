"""`Delivery`: the second argument of a handler, which extends the lease and emits child events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Final, Protocol
from uuid import NAMESPACE_URL, uuid5

from dynamodb_outbox.emit_options import EmitOptions, event_of
from dynamodb_outbox.errors import ConfigurationError, InvalidEventError, UsageError
from dynamodb_outbox.event import Event
from dynamodb_outbox.fingerprint import Fingerprint, fingerprint_of
from dynamodb_outbox.outcome import LONGEST_DELAY
from dynamodb_outbox.transaction import Transaction
from dynamodb_outbox.typed.stored_form import to_stored
from dynamodb_outbox.validation import check_seconds
from dynamodb_outbox.wording import shape

CHILD_IDS: Final = uuid5(NAMESPACE_URL, "dynamodb-outbox:child")
"""The namespace of the ids of child events, see RFC 9562, section 5.5."""
_NOTHING_WAS_SENT: Final = (InvalidEventError, ConfigurationError, UsageError)


class DeliveryBackend(Protocol):
    """The part of the worker that serves one call of one handler."""

    @property
    def lease_expires_at(self) -> float:
        """When the claim ends (epoch seconds)."""
        ...

    @property
    def outbox(self) -> object:
        """The outbox of the event."""
        ...

    async def extend(self, seconds: float) -> None:
        """Extend the lease and the time limit of the handler to `seconds` from now."""
        ...

    def prepare(self, event: Event) -> Event:
        """Prepare an event that a transaction collects."""
        ...

    async def commit(self, transaction: Transaction) -> None:
        """Commit a transaction that also records the handler as done."""
        ...


class Delivery:
    """One attempt of one handler. A handler that takes a second argument gets it.

    `attempt` counts from 1 to `max_attempts`; `handler` is the name of the handler.
    """

    def __init__(
        self,
        event: Event,
        *,
        attempt: int,
        max_attempts: int,
        handler: str,
        backend: DeliveryBackend,
        emit: Callable[[Sequence[Event], EmitOptions], Awaitable[list[Event]]],
    ) -> None:
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.handler = handler
        self._event = event
        self._backend = backend
        self._emit = emit
        self._emits = count()
        self._failed: list[tuple[Fingerprint, str]] = []

    def __repr__(self) -> str:
        return f"Delivery({self._event.id!r}, handler={self.handler!r}, attempt={self.attempt})"

    @property
    def lease_expires_at(self) -> float:
        """When the lease ends, in epoch seconds. The handler is cancelled shortly before that."""
        return self._backend.lease_expires_at

    async def extend(self, seconds: float) -> None:
        """Let this handler run for `seconds` from now, up to ten years, and extend the lease of the event.

        It never shortens the time that the handler has. Raises `LeaseLostError` if another worker has claimed the
        event, and `StorageError` if the extension could not be written.
        """
        check_seconds("seconds", seconds, 0, LONGEST_DELAY)
        await self._backend.extend(seconds)

    def transaction(self) -> Transaction:
        """Make a transaction that also records this handler as done, so that its effects happen exactly once.

        `async with delivery.transaction() as tx` commits the writes and events of the block together with the
        record, if this worker still holds the event. After the commit, the handler does not run again for this event,
        even if the worker dies. Raises the errors of `bus.transaction()`, `LeaseLostError` if another worker has
        claimed the event (then nothing is written), and `UsageError` for a second transaction after a commit.
        """
        # Each transaction counts from 0, so that a repeated transaction makes children with the same ids.
        make_event = partial(self._child_in_transaction, count())
        backend = self._backend
        return Transaction(backend.commit, make_event=make_event, prepare=backend.prepare, outbox=backend.outbox)

    async def emit(
        self,
        type: object,
        payload: Any = None,
        *,
        key: str | None = None,
        metadata: dict[str, Any] | None = None,
        ordering_key: str | None = None,
        delay: float | None = None,
        deliver_at: datetime | None = None,
    ) -> Event | None:
        """Emit an event that follows from this one. A retried handler emits it once.

        Takes a type and a payload, or an instance of a class that `event_type` registered.

        The id of the new event is derived from the id of this event, the name of the handler, and the position among
        the handler's emits. Give a `key` instead of the position where the order may change from attempt to attempt, or
        where the handler goes on after a failed emit. Without a `key`, an emit that equals a failed emit of the same
        attempt in all other arguments repeats that emit, and has its id.

        The metadata get `causationId`, the id of this event, and `correlationId`, the id of the first event of the
        chain. `delay` (seconds) or `deliver_at` postpones the delivery, by ten years at most. Returns None if an emit
        middleware dropped the event. Raises `InvalidEventError` before anything is sent, and `StorageError`.
        """
        name, payload, metadata = _stored_child(type, payload, metadata)
        options = EmitOptions(delay=delay, deliver_at=deliver_at, if_exists="ignore")
        described = self._metadata(metadata)
        # The fingerprint is taken before the emit, because the caller may change the payload during the emit.
        content = fingerprint_of((name, payload, described, ordering_key, delay, deliver_at)) if key is None else None
        failed_id = self._take_failed(content)
        child_id = failed_id or self._id_of_emit(key)
        child = event_of(name, payload, id=child_id, metadata=described, ordering_key=ordering_key)
        try:
            stored = await self._emit([child], options)
        except BaseException as error:  # also when cancelled, because the child may be stored
            nothing_was_sent = failed_id is None and isinstance(error, _NOTHING_WAS_SENT)
            if content is not None and not nothing_was_sent:
                self._failed.append((content, child.id))
            raise
        return stored[0] if stored else None

    def _take_failed(self, content: Fingerprint | None) -> str | None:
        """Take the id of the failed child with the same content, or None if no failed child equals it.

        In doubt, the child gets a new id: a handler can recognise a second child, but nobody sees a lost child.
        """
        for index, (failed, child_id) in enumerate(self._failed):
            if failed == content:
                del self._failed[index]
                return child_id
        return None

    def _child_in_transaction(
        self,
        positions: Iterator[int],
        type_or_event: object,
        payload: Any = None,
        *,
        id: str | None = None,
        occurred_at: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        ordering_key: str | None = None,
    ) -> Event:
        make = partial(event_of, type_or_event, payload, occurred_at=occurred_at, ordering_key=ordering_key)
        if isinstance(type_or_event, Event):
            return make(id=id, metadata=metadata)
        child_id = id if id is not None else self._child_id("transaction", str(next(positions)))
        return make(id=child_id, metadata=self._metadata(metadata))

    def _id_of_emit(self, key: str | None) -> str:
        if key is None:
            return self._child_id("emit", str(next(self._emits)))
        if not isinstance(key, str) or not key:
            raise ConfigurationError(f"key must be a string that is not empty, not {shape(key)}")
        return self._child_id("key", key)

    def _child_id(self, way: str, which: str) -> str:
        return str(uuid5(CHILD_IDS, f"{self._event.id}\0{self.handler}\0{way}\0{which}"))

    def _metadata(self, given: dict[str, Any] | None) -> dict[str, Any]:
        if given is not None and not isinstance(given, Mapping):
            raise InvalidEventError(f"metadata must be a mapping, not {shape(given)}")
        correlation = self._event.metadata.get("correlationId", self._event.id)
        # A handler may pass on the metadata of its event, where `causationId` is the id of the event before it.
        return {"correlationId": correlation, **(given or {}), "causationId": self._event.id}


def _stored_child(type: object, payload: Any, metadata: Any) -> tuple[str, Any, Any]:
    name = type
    if not isinstance(type, Event):
        name, payload, metadata = to_stored(type, payload, metadata)
    if not isinstance(name, str):
        raise InvalidEventError(
            f"delivery.emit takes a type and a payload, not {shape(type)}: it derives the id of the child event; "
            "to emit an Event with your own id, call bus.emit"
        )
    return name, payload, metadata
